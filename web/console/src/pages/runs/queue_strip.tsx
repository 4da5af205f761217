// How many steps wait and run right now, above the list of runs.
import { getQueue, type QueueDepths } from "../../api/queue";
import { count } from "../../format";
import { usePolled } from "../../live/poll";

const REFRESH_MS = 2_000;
const TOLD = [
  ["running", "running"],
  ["ready", "ready"],
  ["delayed", "pending"],
  ["stuck", "failed"],
] as const satisfies readonly (readonly [keyof QueueDepths, string])[];

export function QueueStrip() {
  const queue = usePolled("queue", REFRESH_MS, getQueue);
  const { value } = queue.value;
  if (value === null) return null;
  return (
    <a class="queue-strip" href="/queue">
      <span class="visually-hidden">Steps in the queue:</span>
      {TOLD.map(([name, look]) => (
        <span key={name} class={value.total[name].steps > 0 ? `s-${look}` : "none"}>
          <strong class="number">{count(value.total[name].steps)}</strong> {name}
        </span>
      ))}
    </a>
  );
}
