// One run in the list.
import type { Run } from "../../api/types";
import { count, duration, now, shortId } from "../../format";
import { Icon } from "../../parts/icons";
import { ProgressBar, StatusPill } from "../../parts/status";
import { RunLink, When } from "../../parts/text";
import { navigate } from "../../router";

interface Props {
  readonly run: Run;
  readonly isSelected: boolean;
  readonly onFocus: () => void;
}

export function RunRow({ run, isSelected, onFocus }: Props) {
  const { stepsSummary: steps } = run;
  const open = (event: MouseEvent) => {
    if (!(event.target as Element).closest("a, button") && !getSelection()?.toString()) navigate(`/runs/${run.id}`);
  };
  return (
    <tr class={isSelected ? "selected" : ""} onClick={open}>
      <td>
        <StatusPill status={run.status} />
      </td>
      <td>
        <a class="mono run-id" href={`/runs/${run.id}`} data-run={run.id} title={run.id} onFocus={onFocus}>
          {shortId(run.id)}
        </a>
        <Labels labels={run.labels} />
      </td>
      <td class="workflow">
        {run.workflowName} <span class="quiet">{run.workflowVersion}</span>
      </td>
      <td>
        <Trigger run={run} />
      </td>
      <td>
        <div class="steps-cell">
          <ProgressBar summary={steps} />
          <span class="number">
            {count(steps.completed + steps.skipped)}/{count(steps.total)}
          </span>
        </div>
      </td>
      <td>
        <Reused run={run} />
      </td>
      <td class="quiet">
        <When at={run.createdAt} />
      </td>
      <td class="right number">{run.startedAt ? duration(runMs(run)) : "–"}</td>
    </tr>
  );
}

/** How long the run took, or has been running: no less than any of its steps, whose ends are heard between two ticks. */
export function runMs(run: Run): number {
  if (run.startedAt === undefined) return 0;
  const end = run.completedAt ? Date.parse(run.completedAt) : Math.max(now.value, Date.parse(run.updatedAt));
  return end - Date.parse(run.startedAt);
}

/** What began the run, and on what it builds. */
export function Trigger({ run }: { run: Run }) {
  return (
    <span class="trigger">
      <span class="chip">{run.triggerType === "update" ? (run.changeRequest?.type ?? "update") : run.triggerType}</span>
      {run.baseRunId && (
        <span class="quiet">
          of <RunLink id={run.baseRunId} />
        </span>
      )}
    </span>
  );
}

function Reused({ run }: { run: Run }) {
  const saved = run.savings;
  if (saved === undefined || saved.skippedSteps === 0) return <span class="quiet">–</span>;
  return (
    <span class="reused" title={`${saved.skippedSteps} steps were reused`}>
      <Icon name="skipped" />
      <span class="number">{count(saved.skippedSteps)}</span>
      {saved.secondsSaved > 0 && <span class="quiet">saved {duration(saved.secondsSaved * 1000)}</span>}
    </span>
  );
}

const LABELS_MAX = 2;

function Labels({ labels }: { labels: Run["labels"] }) {
  const all = Object.entries(labels ?? {});
  if (all.length === 0) return null;
  return (
    <span class="labels" title={all.map(([key, value]) => `${key}=${value}`).join("\n")}>
      {all.slice(0, LABELS_MAX).map(([key, value]) => (
        <span key={key} class="chip">
          {key}={value}
        </span>
      ))}
      {all.length > LABELS_MAX && <span class="quiet">+{all.length - LABELS_MAX}</span>}
    </span>
  );
}
