// The filters of the list of runs, as the address holds them and as the engine is asked.
import type { Query } from "../../api/client";
import type { RunStatus, TriggerType } from "../../api/types";

export const STATUSES: readonly RunStatus[] = ["queued", "running", "completed", "failed", "cancelled"];
export const TRIGGERS: readonly TriggerType[] = ["initial", "update", "retry"];

/** Spans of time that can be chosen, by the word in the address. */
export const SPANS: Readonly<Record<string, { readonly name: string; readonly ms: number }>> = {
  "1h": { name: "Last hour", ms: 3_600_000 },
  "24h": { name: "Last 24 hours", ms: 86_400_000 },
  "7d": { name: "Last 7 days", ms: 7 * 86_400_000 },
  "30d": { name: "Last 30 days", ms: 30 * 86_400_000 },
};

const PAGE_SIZE = 50;
const SPAN_STEP_MS = 60_000;

/** What the list is asked for; a span's beginning moves by the minute, so that page tokens keep their filter. */
export function listQuery(address: URLSearchParams, startedAt: number): Query {
  const span = SPANS[address.get("since") ?? ""];
  const since = span && new Date(Math.floor((startedAt - span.ms) / SPAN_STEP_MS) * SPAN_STEP_MS);
  return {
    pageSize: PAGE_SIZE,
    workflowName: address.get("workflow"),
    statuses: statusesOf(address),
    triggerType: address.get("trigger"),
    labels: labelsOf(address),
    baseRunId: address.get("base"),
    createdAfter: address.get("after") ?? since?.toISOString(),
    createdBefore: address.get("before"),
    pageToken: address.get("page"),
  };
}

export function statusesOf(address: URLSearchParams): string[] {
  return (address.get("status") ?? "").split(",").filter((word) => word !== "");
}

/** `campaign=summer team=growth`, as the field takes it. */
export function labelsOf(address: URLSearchParams): string[] {
  return (address.get("labels") ?? "").split(/[\s,]+/).filter((each) => /^[^=]+=/.test(each));
}

export const FILTERS = ["workflow", "status", "trigger", "labels", "since", "base", "after", "before"] as const;

export function isFiltered(address: URLSearchParams): boolean {
  return FILTERS.some((name) => address.has(name));
}
