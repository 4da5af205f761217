// The button that opens the dialog in which a run is started, and its key.
import { useState } from "preact/hooks";
import { useShortcuts } from "../keyboard";
import { Icon } from "../parts/icons";
import { TriggerDialog } from "./trigger_dialog";

interface Props {
  /** Chosen when the dialog opens; none means the first of the list. */
  readonly workflowName?: string | undefined;
  readonly version?: string | undefined;
}

export function StartRun({ workflowName, version }: Props) {
  const [isOpen, setOpen] = useState(false);
  useShortcuts([{ keys: "n", does: "Start a new run", run: () => setOpen(true) }]);
  return (
    <>
      <button class="button primary" type="button" onClick={() => setOpen(true)}>
        <Icon name="plus" />
        New run…
      </button>
      {isOpen && <TriggerDialog workflowName={workflowName} version={version} onClose={() => setOpen(false)} />}
    </>
  );
}
