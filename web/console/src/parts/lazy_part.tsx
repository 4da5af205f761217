// A component whose code comes when it is first shown.
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ErrorBox, Loading } from "./feedback";

export function lazyPart<Props extends object>(load: () => Promise<ComponentType<Props>>): ComponentType<Props> {
  let loaded: ComponentType<Props> | null = null;
  return function LazyPart(props: Props) {
    const [part, setPart] = useState<{ Shown: ComponentType<Props> | null; error: Error | null }>({
      Shown: loaded,
      error: null,
    });
    useEffect(() => {
      if (loaded !== null) return;
      load().then(
        (Shown) => setPart({ Shown: (loaded = Shown), error: null }),
        (error: Error) => setPart({ Shown: null, error }),
      );
    }, []);
    if (part.error) return <ErrorBox error={part.error} />;
    return part.Shown ? <part.Shown {...props} /> : <Loading />;
  };
}
