// The queue of the caller's tenant.
import { get } from "./client";

/** How many steps, and how long the oldest has been in its state. */
export interface QueueDepth {
  readonly steps: number;
  readonly oldestAgeMs: number;
}

export type QueueState = "ready" | "delayed" | "waiting" | "held" | "running";

/** Stuck steps are counted in their states as well. */
export type QueueDepths = Readonly<Record<QueueState | "stuck", QueueDepth>>;

export interface QueuedStep {
  readonly runId: string;
  readonly stepId: string;
  readonly workflowName: string;
  readonly skillId: string;
  readonly state: QueueState;
  readonly attempt: number;
  readonly since: string;
  readonly nextAttemptAt?: string;
}

export interface Queue {
  readonly readAt: string;
  readonly enginesAlive: number;
  readonly total: QueueDepths;
  readonly skills: readonly { readonly skillId: string; readonly depths: QueueDepths }[];
  readonly delayed: readonly QueuedStep[];
  readonly stuck: readonly QueuedStep[];
}

export const getQueue = (abort?: AbortSignal) => get<Queue>("/queue", {}, abort);
