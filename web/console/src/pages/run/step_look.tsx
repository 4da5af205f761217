// How a step's origin and time are told, the same in graph, timeline, list and drawer.
import type { CacheDecision, OutputSource, Step } from "../../api/types";
import { duration, now } from "../../format";
import { Icon } from "../../parts/icons";

const SOURCES: Partial<Record<OutputSource, readonly [string, string]>> = {
  base_run: ["base", "Reused from the base run"],
  cache_hot: ["cache", "Found in the hot cache"],
  cache_cold: ["cache", "Found in the cold cache"],
  joined: ["joined", "Shared with another run that executed the same input"],
};

/** Where a result came from that was not executed here. */
export function SourceBadge({ source }: { source: OutputSource | undefined }) {
  const known = source && SOURCES[source];
  if (!known) return null;
  return (
    <span class="source-badge" title={known[1]}>
      <Icon name={source === "base_run" ? "skipped" : "cache"} />
      {known[0]}
    </span>
  );
}

/** How long the step ran, or has been running; null before. */
export function stepMs(step: Step): number | null {
  if (step.status === "running" && step.startedAt) return Math.max(0, now.value - Date.parse(step.startedAt));
  if (step.endedAt !== undefined && step.startedAt !== undefined) {
    return step.durationMs || Date.parse(step.endedAt) - Date.parse(step.startedAt);
  }
  return null;
}

/** One short word on the right of a node. */
export function stepNote(step: Step): string {
  if (step.status === "running" && step.progress && step.progress.fraction > 0) {
    return `${Math.round(step.progress.fraction * 100)} %`;
  }
  const ms = stepMs(step);
  if (ms === null) return "";
  if (step.status !== "running") return duration(ms);
  return ms < SECOND ? "" : duration(Math.floor(ms / SECOND) * SECOND); // as the clock of pages ticks once a second
}

const SECOND = 1000;

const OUTCOMES: Record<CacheDecision["outcome"], string> = {
  disabled: "Not cached: its policy says so",
  hit: "Hit",
  miss: "Miss",
  joined: "Joined another execution of the same input",
  refreshed: "Refreshed: executed anew, whatever the cache held",
  bypassed: "Bypassed: the cache was not asked",
  lookup_failed: "The cache could not be asked",
};

const MISSES: Record<string, string> = {
  never_seen: "this step has no cached output yet",
  input_changed: "its input is another one",
  skill_changed: "the skill is another version",
  epoch_changed: "the workflow's cache epoch is another one",
  invalidated: "the entry was invalidated",
  evicted: "the entry was evicted",
  scope: "the entry is of another run only",
  artifact_gone: "an artifact of the entry is gone",
};

export function cacheText(cache: CacheDecision): string {
  const tier = cache.outcome === "hit" && cache.tier ? ` in the ${cache.tier} cache` : "";
  const reason = cache.outcome === "miss" && cache.missReason ? `: ${MISSES[cache.missReason] ?? cache.missReason}` : "";
  return OUTCOMES[cache.outcome] + tier + reason;
}
