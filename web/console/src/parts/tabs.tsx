// Tabs whose choice is in the address.
import { useEffect, useRef } from "preact/hooks";
import { hrefWith } from "../router";

interface Props {
  readonly label: string;
  readonly current: string;
  /** Key and name of each. */
  readonly tabs: readonly (readonly [string, string])[];
  /** The one that the address does not name. */
  readonly first: string;
}

export function Tabs({ label, current, tabs, first }: Props) {
  const row = useRef<HTMLElement>(null);
  useEffect(() => {
    row.current!.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [current]);
  return (
    <nav class="tabs" aria-label={label} ref={row}>
      {tabs.map(([key, name]) => (
        <a key={key} href={hrefWith({ tab: key === first ? null : key })} aria-current={key === current ? "page" : undefined}>
          {name}
        </a>
      ))}
    </nav>
  );
}
