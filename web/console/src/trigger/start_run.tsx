// The button that opens the dialog in which a run is started, and its key.
import { useState } from "preact/hooks";
import { useShortcuts } from "../keyboard";
import { Icon } from "../parts/icons";
import { TriggerDialog, type Beginning } from "./trigger_dialog";

interface Props extends Beginning {
  readonly name?: string;
  readonly look?: "primary" | "";
}

export function StartRun({ name = "New run…", look = "primary", ...beginning }: Props) {
  const [isOpen, setOpen] = useState(false);
  useShortcuts([{ keys: "n", does: "Start a new run", run: () => setOpen(true) }]);
  return (
    <>
      <button class={`button ${look}`} type="button" onClick={() => setOpen(true)}>
        <Icon name="plus" />
        {name}
      </button>
      {isOpen && <TriggerDialog {...beginning} onClose={() => setOpen(false)} />}
    </>
  );
}
