// Steps of the queue by name, each with its way to the run.
import type { QueuedStep } from "../../api/queue";
import { ago, count, duration, now } from "../../format";
import { RunLink } from "../../parts/text";
import { STATES } from "./states";

interface Props {
  readonly title: string;
  readonly steps: readonly QueuedStep[];
  /** Of all, of which these are the first. */
  readonly total: number;
}

export function QueuedSteps({ title, steps, total }: Props) {
  return (
    <section class="panel">
      <h2 class="panel-title">
        {title}
        {total > steps.length && (
          <span class="quiet">
            {" "}
            first {count(steps.length)} of {count(total)}
          </span>
        )}
      </h2>
      <div class="table-scroll">
        <table class="queued">
          <thead>
            <tr>
              <th>Step</th>
              <th>Run</th>
              <th>Workflow</th>
              <th>Skill</th>
              <th>State</th>
              <th class="right">Attempt</th>
              <th class="right">When</th>
            </tr>
          </thead>
          <tbody>
            {steps.map((step) => (
              <Row key={`${step.runId} ${step.stepId}`} step={step} />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Row({ step }: { step: QueuedStep }) {
  return (
    <tr>
      <td>
        <a href={`/runs/${step.runId}?step=${encodeURIComponent(step.stepId)}`}>{step.stepId}</a>
      </td>
      <td>
        <RunLink id={step.runId} />
      </td>
      <td>{step.workflowName}</td>
      <td class="mono">{step.skillId}</td>
      <td>{STATES[step.state].name.toLowerCase()}</td>
      <td class="right number">{step.attempt}</td>
      <td class="right number">{when(step)}</td>
    </tr>
  );
}

function when({ nextAttemptAt, since }: QueuedStep): string {
  if (nextAttemptAt === undefined) return ago(since);
  const inMs = Date.parse(nextAttemptAt) - now.value;
  return inMs > 0 ? `in ${duration(Math.ceil(inMs / 1000) * 1000)}` : "now";
}
