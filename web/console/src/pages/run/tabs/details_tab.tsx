// What the run was asked to do, and by whom.
import { moment } from "../../../format";
import { Copy, JsonView, RunLink } from "../../../parts/text";
import { StartRun } from "../../../trigger/start_run";
import type { TabProps } from "./tab";

export function DetailsTab({ model }: TabProps) {
  const run = model.run.value!;
  const rows: [string, preact.ComponentChildren][] = [
    ["Run", <Identity id={run.id} />],
    ["Workflow", <WorkflowLink name={run.workflowName} version={run.workflowVersion} />],
    ["Trigger", run.triggerType],
    ["Base run", run.baseRunId && <RunLink id={run.baseRunId} />],
    ["First run", run.rootRunId !== run.id && <RunLink id={run.rootRunId} />],
    ["Asked by", run.principal],
    ["Request id", run.requestId && <Identity id={run.requestId} />],
    ["Priority", String(run.priority)],
    ["Created", moment(run.createdAt)],
    ["Started", run.startedAt && moment(run.startedAt)],
    ["Ended", run.completedAt && moment(run.completedAt)],
    ["Deadline", run.deadline && moment(run.deadline)],
    ["Labels", Object.entries(run.labels ?? {}).map(([key, value]) => <span class="chip" key={key}>{key}={value}</span>)],
  ];
  return (
    <div class="details-tab">
      <dl class="facts">
        {rows
          .filter(([, value]) => value && (!Array.isArray(value) || value.length > 0))
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
      <div class="details-json">
        {run.changeRequest && (
          <>
            <h3>Change request: {run.changeRequest.type}</h3>
            <JsonView value={run.changeRequest.payload} label="change request" />
          </>
        )}
        <h3>Payload that counts</h3>
        <JsonView value={run.triggerPayload} label="payload" />
        {run.triggerPayload && (
          <StartRun name="New run with this payload…" look="" workflowName={run.workflowName} payload={run.triggerPayload} />
        )}
      </div>
    </div>
  );
}

function WorkflowLink({ name, version }: { name: string; version: string }) {
  return (
    <a href={`/workflows/${encodeURIComponent(name)}?version=${encodeURIComponent(version)}`}>
      {name} {version}
    </a>
  );
}

function Identity({ id }: { id: string }) {
  return (
    <span class="identity mono">
      {id} <Copy text={id} what="the id" />
    </span>
  );
}
