// Changes a completed run: which change, with what payload, and what that would execute.
import { useEffect, useRef, useState } from "preact/hooks";
import { updateRun } from "../../../api/runs";
import type { JsonObject, Run, Workflow } from "../../../api/types";
import { getWorkflow } from "../../../api/workflows";
import { usePolled } from "../../../live/poll";
import { Dialog } from "../../../parts/dialog";
import { Empty, ErrorBox, Loading } from "../../../parts/feedback";
import { shortId } from "../../../format";
import { CACHE_MODES, CacheModeField } from "../../../plans/cache_mode_field";
import { PayloadEditor, readObject } from "../../../plans/payload_editor";
import { PlanActions, PlanArea } from "../../../plans/plan_area";
import { usePlanning } from "../../../plans/planning";
import { presentValue } from "../../../plans/present_value";

const MODES = [["", "as the change says"], ["default", "use what is cached"], ...CACHE_MODES] as const;

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
  const changes = useRef<HTMLFieldSetElement>(null);
  useEffect(() => changes.current?.querySelector<HTMLInputElement>("input:checked")?.focus(), []);
  if (rules.length === 0) return <Empty title="This workflow declares no changes" />;
  return (
    <form class="plan-form" onSubmit={planning.submit}>
      <fieldset class="changes" ref={changes}>
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
      <div class="plan-request">
        <PayloadEditor
          text={text}
          onText={setText}
          schema={workflow.triggerSchema}
          present={(field) => presentValue(run, workflow, field)}
          described={workflow.changeRequests?.[type]?.description ?? ""}
        />
        <CacheModeField value={cacheMode} onValue={setCacheMode} modes={MODES} />
      </div>
      <PlanArea planning={planning} isAsked={!(payload instanceof Error)} />
      <PlanActions planning={planning} does="Start the update" onClose={onClose} />
    </form>
  );
}
