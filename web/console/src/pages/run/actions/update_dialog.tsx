// Changes a completed run: which change, with what payload, and what that would execute.
import { useState } from "preact/hooks";
import { updateRun } from "../../../api/runs";
import type { JsonObject, Run, Workflow } from "../../../api/types";
import { getWorkflow } from "../../../api/workflows";
import { usePolled } from "../../../live/poll";
import { Dialog } from "../../../parts/dialog";
import { Empty, ErrorBox, Loading } from "../../../parts/feedback";
import { shortId } from "../../../format";
import { PayloadEditor, readObject } from "./payload_editor";
import { PlanView } from "./plan_view";
import { usePlanning } from "./planning";

const CACHE_MODES = [
  ["", "as the change says"],
  ["default", "use what is cached"],
  ["refresh", "execute anew, renew the cache"],
  ["read_only", "use what is cached, store nothing"],
  ["bypass", "neither use nor store"],
] as const;

export function UpdateDialog({ run, onClose }: { run: Run; onClose: () => void }) {
  const found = usePolled(`workflow ${run.workflowName} ${run.workflowVersion}`, 0, (abort) =>
    getWorkflow(run.workflowName, run.workflowVersion, abort),
  );
  const { value: workflow, error } = found.value;
  return (
    <Dialog title={`Update run ${shortId(run.id)}`} wide onClose={onClose}>
      {error && <ErrorBox error={error} again={found.again} />}
      {!workflow && !error && <Loading />}
      {workflow && <UpdateForm run={run} workflow={workflow} onClose={onClose} />}
    </Dialog>
  );
}

function UpdateForm({ run, workflow, onClose }: { run: Run; workflow: Workflow; onClose: () => void }) {
  const rules = Object.entries(workflow.changeRequests ?? {});
  const [type, setType] = useState(rules[0]?.[0] ?? "");
  const [text, setText] = useState("{}");
  const [cacheMode, setCacheMode] = useState("");
  const payload = readObject(text);
  const request: JsonObject | null =
    payload instanceof Error ? null : { changeRequest: { type, payload }, ...(cacheMode && { cacheMode }) };
  const planning = usePlanning(request, (asked, abort) => updateRun(run.id, asked, abort));
  if (rules.length === 0) return <Empty title="This workflow declares no changes" />;
  const submit = (event: Event) => {
    event.preventDefault();
    void planning.start();
  };
  return (
    <form class="update-form" onSubmit={submit}>
      <fieldset class="changes">
        <legend>Change</legend>
        {rules.map(([name, rule]) => (
          <label key={name} class={name === type ? "change chosen" : "change"}>
            <input type="radio" name="type" value={name} checked={name === type} onChange={() => setType(name)} />
            <span>
              <strong>{name}</strong>
              <span class="quiet">{rule.description}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <div class="update-request">
        <PayloadEditor
          text={text}
          onText={setText}
          schema={workflow.triggerSchema}
          current={run.triggerPayload}
          described={workflow.changeRequests?.[type]?.description ?? ""}
        />
        <label class="field">
          Cache
          <select value={cacheMode} onChange={(event) => setCacheMode(event.currentTarget.value)}>
            {CACHE_MODES.map(([word, name]) => (
              <option key={word} value={word}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </div>
      <div class="update-plan" aria-live="polite" aria-busy={planning.isBusy}>
        {planning.error && <ErrorBox error={planning.error} />}
        {planning.plan && <PlanView plan={planning.plan} isChanged={planning.isChanged} />}
        {!planning.plan && !planning.error && !(payload instanceof Error) && <Loading lines={4} />}
      </div>
      <div class="dialog-actions">
        <button class="button" type="button" onClick={onClose}>
          Close
        </button>
        <button class="button primary" type="submit" disabled={planning.plan === null || planning.isBusy}>
          Start the update
        </button>
      </div>
    </form>
  );
}
