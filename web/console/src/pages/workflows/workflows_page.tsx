// The list of workflows, each in its highest version.
import { useEffect } from "preact/hooks";
import { listWorkflows } from "../../api/workflows";
import type { Workflow } from "../../api/types";
import { plural } from "../../format";
import { usePolledHealth } from "../../live/connection";
import { usePolled } from "../../live/poll";
import { Empty, ErrorBox, Loading } from "../../parts/feedback";
import { When } from "../../parts/text";
import { hrefWith, place } from "../../router";
import { StartRun } from "../../trigger/start_run";

const REFRESH_MS = 15_000;

export function WorkflowsPage() {
  const pageToken = place.value.query.get("page") ?? "";
  const workflows = usePolled(`workflows ${pageToken}`, REFRESH_MS, (abort) =>
    listWorkflows(pageToken ? { pageToken } : {}, abort),
  );
  usePolledHealth(workflows);
  useEffect(() => {
    document.title = "Workflows · RunEngine";
  }, []);
  const { value, error } = workflows.value;
  return (
    <div class="page">
      <div class="page-head">
        <h1>Workflows</h1>
        <div class="end">
          <StartRun />
        </div>
      </div>
      {error && <ErrorBox error={error} again={workflows.again} />}
      {!value && !error && <Loading />}
      {value && value.workflows.length === 0 && (
        <Empty title="No workflows yet">
          <pre class="example">runengine workflow register my.workflow.yaml</pre>
        </Empty>
      )}
      <ul class="workflow-list">
        {value?.workflows.map((workflow) => <Card key={workflow.workflowName} workflow={workflow} />)}
      </ul>
      {value?.nextPageToken && (
        <nav class="pager" aria-label="Pages of the list">
          <a class="button" href={hrefWith({ page: value.nextPageToken })}>
            More
          </a>
        </nav>
      )}
    </div>
  );
}

function Card({ workflow }: { workflow: Workflow }) {
  const changes = Object.keys(workflow.changeRequests ?? {});
  return (
    <li class="panel workflow-card">
      <h2>
        <a href={`/workflows/${encodeURIComponent(workflow.workflowName)}`}>{workflow.workflowName}</a>
        <span class="chip">{workflow.version}</span>
      </h2>
      <p>{workflow.description}</p>
      <p class="quiet">
        {plural(workflow.steps.length, "step")}, {plural(changes.length, "change")}
        {workflow.createdAt && (
          <>
            , registered <When at={workflow.createdAt} />
          </>
        )}
      </p>
    </li>
  );
}
