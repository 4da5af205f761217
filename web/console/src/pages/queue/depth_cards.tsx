// One card a state: how many steps, and how long the oldest has been in it.
import type { QueueDepths } from "../../api/queue";
import { count, duration } from "../../format";
import { ORDER, STATES } from "./states";

export function DepthCards({ depths }: { depths: QueueDepths }) {
  return (
    <ul class="depth-cards" aria-label="Steps by state">
      {ORDER.map((state) => {
        const { steps, oldestAgeMs } = depths[state];
        return (
          <li key={state} class={`panel depth-card ${steps > 0 ? STATES[state].look : "none"}`} data-state={state}>
            <span class="depth-name">{STATES[state].name}</span>
            <strong class="number">{count(steps)}</strong>
            <span class="quiet">{steps > 0 ? `oldest ${duration(oldestAgeMs)}` : STATES[state].means}</span>
          </li>
        );
      })}
    </ul>
  );
}
