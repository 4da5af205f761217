// What went wrong: a failure, and every attempt of a step.
import type { Failure, StepAttempt } from "../../../api/types";
import { clock, duration } from "../../../format";
import { JsonView } from "../../../parts/text";

export function FailureBox({ failure, nextAttemptAt }: { failure: Failure; nextAttemptAt?: string | undefined }) {
  return (
    <div class="error-box" role="alert">
      <div>
        <code class="reason">{failure.code}</code>
        <span>{failure.message}</span>
      </div>
      {nextAttemptAt && <p class="quiet">It is tried again at {clock(nextAttemptAt)}.</p>}
      {failure.details && Object.keys(failure.details).length > 0 && (
        <JsonView value={failure.details} label="details of the failure" />
      )}
    </div>
  );
}

export function Attempts({ attempts }: { attempts: readonly StepAttempt[] }) {
  if (attempts.length === 0) return null;
  return (
    <section>
      <h3>Attempts</h3>
      <ol class="attempts">
        {attempts.map((attempt) => (
          <li key={attempt.attempt} class={attempt.error ? "s-failed" : "s-completed"}>
            <span class="dot" />
            <strong>{attempt.attempt}</strong>
            <span class="number">{timeOf(attempt)}</span>
            {attempt.error && (
              <span>
                <code class="reason">{attempt.error.code}</code> {attempt.error.message}
              </span>
            )}
            {attempt.workerId && <span class="quiet">on {attempt.workerId}</span>}
          </li>
        ))}
      </ol>
    </section>
  );
}

function timeOf({ startedAt, endedAt }: StepAttempt): string {
  if (startedAt === undefined || endedAt === undefined) return "";
  return `${clock(startedAt)}, ${duration(Date.parse(endedAt) - Date.parse(startedAt))}`;
}
