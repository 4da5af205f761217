// The states of queued steps as people read them.
import type { QueueDepths } from "../../api/queue";

export interface StateLook {
  readonly name: string;
  readonly means: string;
  /** The run page's state whose colour it has. */
  readonly look: string;
}

export const STATES: Readonly<Record<keyof QueueDepths, StateLook>> = {
  ready: { name: "Ready", means: "may begin as soon as an engine takes it", look: "s-ready" },
  running: { name: "Running", means: "is executed by a skill", look: "s-running" },
  held: { name: "Held", means: "waits for a slot of its skill's limit", look: "s-pending" },
  waiting: { name: "Waiting", means: "waits for the same step of another run", look: "s-skipped" },
  delayed: { name: "Delayed", means: "failed and is tried again later", look: "s-pending" },
  stuck: { name: "Stuck", means: "ready for 30 s while engines have room, or running beyond its time", look: "s-failed" },
};

export const ORDER = ["ready", "running", "held", "waiting", "delayed", "stuck"] as const satisfies readonly (keyof QueueDepths)[];
