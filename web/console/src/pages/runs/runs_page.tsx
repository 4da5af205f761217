// The list of runs, newest first, read again while somebody looks.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { listRuns } from "../../api/runs";
import type { Run } from "../../api/types";
import { useShortcuts } from "../../keyboard";
import { usePolledHealth } from "../../live/connection";
import { usePolled } from "../../live/poll";
import { Empty, ErrorBox, Loading } from "../../parts/feedback";
import { hrefWith, navigate, place } from "../../router";
import { StartRun } from "../../trigger/start_run";
import { FilterBar } from "./filter_bar";
import { isFiltered, listQuery } from "./filters";
import { QueueStrip } from "./queue_strip";
import { RunRow } from "./run_row";

const REFRESH_MS = 2_000;

export function RunsPage() {
  const address = place.value.query;
  const key = address.toString();
  const startedAt = useMemo(() => Date.now(), [key]);
  const runs = usePolled(key, REFRESH_MS, (abort) => listRuns(listQuery(address, startedAt), abort));
  usePolledHealth(runs);
  useEffect(() => {
    document.title = "Runs · RunEngine";
  }, []);
  const { value, error, isLoading } = runs.value;
  return (
    <div class="page">
      <div class="page-head">
        <h1>Runs</h1>
        <div class="end">
          <QueueStrip />
          <StartRun workflowName={address.get("workflow") ?? undefined} />
        </div>
      </div>
      <FilterBar />
      {error && <ErrorBox error={error} again={runs.again} />}
      <div class="panel">
        {isLoading && !value && <Loading lines={10} />}
        {value && value.runs.length > 0 && <RunTable runs={value.runs} />}
        {value && value.runs.length === 0 && <NoRuns />}
      </div>
      {value && <Pager next={value.nextPageToken} />}
    </div>
  );
}

function RunTable({ runs }: { runs: readonly Run[] }) {
  const [selected, select] = useState<string | null>(null);
  const body = useRef<HTMLTableSectionElement>(null);
  const at = runs.findIndex((run) => run.id === selected);
  const move = (by: number) => {
    const to = runs[Math.max(0, Math.min(runs.length - 1, at + by))];
    if (to === undefined) return;
    select(to.id);
    body.current!.querySelector<HTMLElement>(`[data-run="${to.id}"]`)?.focus();
  };
  useShortcuts([
    { keys: "j", does: "Next run", run: () => move(1) },
    { keys: "k", does: "Previous run", run: () => move(-1) },
    { keys: "o", does: "Open the run", run: () => selected && navigate(`/runs/${selected}`) },
  ]);
  return (
    <div class="table-scroll">
      <table class="runs">
        <thead>
          <tr>
            <th>Status</th>
            <th>Run</th>
            <th>Workflow</th>
            <th>Trigger</th>
            <th>Steps</th>
            <th>Reused</th>
            <th>Created</th>
            <th class="right">Duration</th>
          </tr>
        </thead>
        <tbody ref={body}>
          {runs.map((run) => (
            <RunRow key={run.id} run={run} isSelected={run.id === selected} onFocus={() => select(run.id)} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function NoRuns() {
  if (isFiltered(place.value.query)) {
    return <Empty title="No run matches these filters" />;
  }
  return (
    <Empty title="No runs yet">
      <p>Start one here, by HTTP, or with the command line, and it appears at once:</p>
      <pre class="example">runengine trigger campaign.build.v1 --payload '{"{"}"brief": …{"}"}'</pre>
    </Empty>
  );
}

function Pager({ next }: { next: string | undefined }) {
  const isFirst = !place.value.query.has("page");
  if (isFirst && next === undefined) return null;
  return (
    <nav class="pager" aria-label="Pages of the list">
      {!isFirst && (
        <a class="button" href={hrefWith({ page: null })}>
          Newest
        </a>
      )}
      {next !== undefined && (
        <a class="button" href={hrefWith({ page: next })}>
          Older
        </a>
      )}
    </nav>
  );
}
