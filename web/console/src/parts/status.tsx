// How states look: always a picture and a word beside the colour.
import type { RunStatus, StepStatus, StepsSummary } from "../api/types";
import { count } from "../format";
import { Icon } from "./icons";

export function StatusPill({ status }: { status: RunStatus | StepStatus }) {
  return (
    <span class={`pill s-${status}`}>
      <Icon name={status} />
      {WORDS[status] ?? status}
    </span>
  );
}

/** The word people read; what is skipped was reused. */
const WORDS: Partial<Record<RunStatus | StepStatus, string>> = { skipped: "reused" };

export const statusWord = (status: RunStatus | StepStatus): string => WORDS[status] ?? status;

const SEGMENTS = ["completed", "skipped", "failed", "cancelled", "running"] as const;

/** How many steps are where, as one bar. */
export function ProgressBar({ summary }: { summary: StepsSummary }) {
  const done = summary.completed + summary.skipped;
  const label = SEGMENTS.filter((name) => summary[name] > 0)
    .map((name) => `${count(summary[name])} ${statusWord(name)}`)
    .join(", ");
  return (
    <div
      class="bar"
      role="progressbar"
      aria-valuemin={0}
      aria-valuemax={summary.total}
      aria-valuenow={done}
      aria-label={`Steps: ${label || "none begun"} of ${count(summary.total)}`}
      title={label || "no step has begun"}
    >
      {SEGMENTS.map((name) =>
        summary[name] > 0 ? (
          <span key={name} class={`bar-part s-${name}`} style={{ flexGrow: summary[name] }} />
        ) : null,
      )}
      <span style={{ flexGrow: summary.total - SEGMENTS.reduce((sum, name) => sum + summary[name], 0) }} />
    </div>
  );
}
