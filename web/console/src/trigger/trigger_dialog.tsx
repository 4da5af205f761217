// Starts a run: of which workflow, in which version, and then the form for that one.
import { useEffect, useRef, useState } from "preact/hooks";
import type { JsonObject } from "../api/types";
import { getWorkflow, listWorkflows } from "../api/workflows";
import { usePolled } from "../live/poll";
import { Dialog } from "../parts/dialog";
import { DraftInput } from "../parts/draft_input";
import { Empty, ErrorBox, Loading } from "../parts/feedback";
import { TriggerForm } from "./trigger_form";

/** What is chosen and written when the dialog opens. */
export interface Beginning {
  /** None means the first of the list. */
  readonly workflowName?: string | undefined;
  /** None means the newest. */
  readonly version?: string | undefined;
  readonly payload?: JsonObject | undefined;
}

interface Props extends Beginning {
  readonly onClose: () => void;
}

export function TriggerDialog({ workflowName = "", version = "", payload, onClose }: Props) {
  const listed = usePolled("workflow names", 0, (abort) => listWorkflows({ pageSize: 500 }, abort));
  const [chosen, choose] = useState({ name: workflowName, version });
  const known = listed.value.value?.workflows.map((each) => each.workflowName) ?? [];
  const name = chosen.name || known[0] || "";
  const names = name === "" || known.includes(name) ? known : [name, ...known];
  const { value, error } = listed.value;
  const first = useRef<HTMLSelectElement>(null);
  useEffect(() => first.current?.focus(), [name !== ""]);
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
              <select ref={first} value={name} onChange={(event) => choose({ name: event.currentTarget.value, version: "" })}>
                {names.map((each) => (
                  <option key={each} value={each}>
                    {each}
                  </option>
                ))}
              </select>
            </label>
            <label class="field">
              Version
              <DraftInput
                value={chosen.version}
                placeholder="newest"
                onCommit={(version) => choose({ name, version })}
              />
            </label>
          </div>
          <ForWorkflow
            key={`${name} ${chosen.version}`}
            name={name}
            version={chosen.version}
            payload={name === workflowName ? payload : undefined}
            onClose={onClose}
          />
        </>
      )}
    </Dialog>
  );
}

interface ForWorkflowProps {
  readonly name: string;
  readonly version: string;
  readonly payload: JsonObject | undefined;
  readonly onClose: () => void;
}

function ForWorkflow({ name, version, payload, onClose }: ForWorkflowProps) {
  const found = usePolled(`${name} ${version}`, 0, (abort) => getWorkflow(name, version || undefined, abort));
  const { value, error } = found.value;
  if (error) return <ErrorBox error={error} again={found.again} />;
  if (value === null) return <Loading />;
  return <TriggerForm workflow={value} payload={payload} onClose={onClose} />;
}
