// What the cache answered for a step, and what of the input was another.
import type { CacheDecision, Step } from "../../../api/types";
import { duration } from "../../../format";
import { Icon } from "../../../parts/icons";
import { Copy, RunLink } from "../../../parts/text";
import { cacheText } from "../step_look";

const POINTERS_MAX = 8;

export function CacheCard({ cache, step }: { cache: CacheDecision; step: Step }) {
  const pointers = cache.changedPointers ?? [];
  const key = cache.key ?? step.cacheKey;
  return (
    <div class={`cache-card o-${cache.outcome}`}>
      <p>
        <Icon name="cache" />
        <strong>Cache</strong> {cacheText(cache)}
      </p>
      {cache.sourceRunId && (
        <p class="quiet">
          Made by <RunLink id={cache.sourceRunId} step={cache.sourceStepId ?? step.stepId} />
          {cache.ageMs !== undefined && `, ${duration(cache.ageMs)} before`}
        </p>
      )}
      {cache.nearestRunId && (
        <p class="quiet">
          Nearest known input: <RunLink id={cache.nearestRunId} step={step.stepId} />
        </p>
      )}
      {pointers.length > 0 && (
        <ul class="pointers" aria-label="Places of the input that changed">
          {pointers.slice(0, POINTERS_MAX).map((pointer) => (
            <li key={pointer}>
              <code>{pointer}</code>
            </li>
          ))}
          {pointers.length > POINTERS_MAX && <li class="quiet">and {pointers.length - POINTERS_MAX} more</li>}
        </ul>
      )}
      {key && (
        <p class="cache-key">
          <code title={key}>{key}</code>
          <Copy text={key} what="the cache key" />
        </p>
      )}
    </div>
  );
}
