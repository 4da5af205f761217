// Starts a run: of which workflow, in which version, and then the form for that one.
import { useState } from "preact/hooks";
import { getWorkflow, listWorkflows } from "../api/workflows";
import { usePolled } from "../live/poll";
import { Dialog } from "../parts/dialog";
import { Empty, ErrorBox, Loading } from "../parts/feedback";
import { TriggerForm } from "./trigger_form";

interface Props {
  readonly workflowName?: string | undefined;
  readonly version?: string | undefined;
  readonly onClose: () => void;
}

export function TriggerDialog({ workflowName = "", version = "", onClose }: Props) {
  const listed = usePolled("workflow names", 0, (abort) => listWorkflows({ pageSize: 500 }, abort));
  const [chosen, choose] = useState({ name: workflowName, version });
  const known = listed.value.value?.workflows.map((each) => each.workflowName) ?? [];
  const name = chosen.name || known[0] || "";
  const names = name === "" || known.includes(name) ? known : [name, ...known];
  const { value, error } = listed.value;
  return (
    <Dialog title="New run" wide onClose={onClose}>
      {error && <ErrorBox error={error} again={listed.again} />}
      {!value && !error && <Loading />}
      {value && names.length === 0 && (
        <Empty title="No workflows yet">
          <p>Register one first; then it can be started here.</p>
        </Empty>
      )}
      {name !== "" && (
        <>
          <div class="trigger-choice">
            <label class="field">
              Workflow
              <select value={name} onChange={(event) => choose({ name: event.currentTarget.value, version: "" })}>
                {names.map((each) => (
                  <option key={each} value={each}>
                    {each}
                  </option>
                ))}
              </select>
            </label>
            <label class="field">
              Version
              <input
                value={chosen.version}
                placeholder="newest"
                spellcheck={false}
                onChange={(event) => choose({ name, version: event.currentTarget.value.trim() })}
              />
            </label>
          </div>
          <ForWorkflow key={`${name} ${chosen.version}`} name={name} version={chosen.version} onClose={onClose} />
        </>
      )}
    </Dialog>
  );
}

function ForWorkflow({ name, version, onClose }: { name: string; version: string; onClose: () => void }) {
  const found = usePolled(`${name} ${version}`, 0, (abort) => getWorkflow(name, version || undefined, abort));
  const { value, error } = found.value;
  if (error) return <ErrorBox error={error} again={found.again} />;
  if (value === null) return <Loading />;
  return <TriggerForm workflow={value} onClose={onClose} />;
}
