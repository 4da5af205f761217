// One run as it is now: a snapshot, and every event since; each step is a signal, so that only what changed is drawn.
import { batch, signal, type Signal } from "@preact/signals";
import { eventsPath, followEvents, INITIAL, type Health, type Message } from "../api/event_stream";
import { getRun } from "../api/runs";
import type { Run, RunEvent, RunSnapshot, Step } from "../api/types";

const REVISION_MS = 200;
const ENDED: ReadonlySet<string> = new Set(["completed", "skipped", "failed", "cancelled"]);

export class RunModel {
  readonly run = signal<Run | null>(null);
  /** The steps in the order of the definition; another list only when another snapshot comes. */
  readonly steps = signal<readonly Signal<Step>[]>([]);
  readonly health = signal<Health>(INITIAL);
  /** Counts changes of any step, a few a second at most: for lists of all steps, which are costly to draw. */
  readonly revision = signal(0);
  /** Counts artifacts and ends, so that lists know when to read again. */
  readonly artifactsChanged = signal(0);

  private readonly byId = new Map<string, Signal<Step>>();
  private parts: Step[] = [];
  private waiting: Message[] = [];
  private frame = 0;
  private revised = 0;

  constructor(readonly runId: string) {}

  /** Follows the run until it ended or the function that this returns is called. */
  follow(): () => void {
    const abort = new AbortController();
    void followEvents(eventsPath(this.runId), (messages) => this.take(messages), abort.signal, {
      health: this.health,
    });
    return () => {
      abort.abort();
      cancelAnimationFrame(this.frame);
      clearTimeout(this.revised);
    };
  }

  step(stepId: string): Signal<Step> | undefined {
    return this.byId.get(stepId);
  }

  /** Applies what came at most once a frame: a run of thousands of steps tells of hundreds of them at a time. */
  private take(messages: Message[]): void {
    this.waiting.push(...messages);
    if (this.frame !== 0) return;
    const apply = () => {
      this.frame = 0;
      const due = this.waiting;
      this.waiting = [];
      batch(() => due.forEach((message) => this.apply(message)));
      this.revise();
    };
    this.frame = document.hidden ? window.setTimeout(apply) : requestAnimationFrame(apply);
  }

  private revise(): void {
    if (this.revised !== 0) return;
    this.revised = window.setTimeout(() => {
      this.revised = 0;
      this.revision.value++;
    }, REVISION_MS);
  }

  private apply(message: Message): void {
    const data: unknown = JSON.parse(message.data);
    switch (message.event) {
      case "snapshot":
        return this.applySnapshot(data as RunSnapshot);
      case "end":
        return this.applyRun((data as { run: Run }).run);
      case "error":
        return;
      default:
        return this.applyEvent(data as RunEvent);
    }
  }

  private applySnapshot(snapshot: RunSnapshot): void {
    this.parts.push(...(snapshot.steps ?? []));
    if (snapshot.more) return;
    const steps = this.parts;
    this.parts = [];
    const isSame = steps.length === this.steps.peek().length && steps.every((step) => this.byId.has(step.stepId));
    if (isSame) {
      for (const step of steps) this.byId.get(step.stepId)!.value = step;
    } else {
      this.byId.clear();
      for (const step of steps) this.byId.set(step.stepId, signal(step));
      this.steps.value = [...this.byId.values()];
    }
    if (snapshot.run !== undefined) this.applyRun(snapshot.run);
    this.artifactsChanged.value++;
  }

  /** Snapshots carry no payloads: those come once, by a request. */
  private applyRun(run: Run): void {
    const before = this.run.peek();
    this.run.value = { ...before, ...run, ...payloads(before) };
    if (before === null) void this.readPayloads();
    if (run.completedAt !== undefined) this.artifactsChanged.value++;
  }

  private async readPayloads(): Promise<void> {
    try {
      const full = await getRun(this.runId);
      this.run.value = { ...full, ...this.run.peek(), ...payloads(full) };
    } catch {
      // The page shows the run without its payload; the stream says what is wrong.
    }
  }

  private applyEvent(event: RunEvent): void {
    if (event.artifact !== undefined) this.artifactsChanged.value++;
    if (event.run !== undefined) this.applyRunEvent(event);
    const known = event.stepId === undefined ? undefined : this.byId.get(event.stepId);
    if (known === undefined) return;
    if (event.progress !== undefined) known.value = { ...known.peek(), progress: event.progress };
    if (event.step !== undefined) {
      known.value = stepAfter(known.peek(), event);
      this.applySummary(event);
    }
  }

  private applyRunEvent(event: RunEvent): void {
    const run = this.run.peek();
    const { toStatus, stepsSummary, error } = event.run!;
    if (run === null) return;
    const isEnd = toStatus === "completed" || toStatus === "failed" || toStatus === "cancelled";
    this.run.value = {
      ...run,
      status: toStatus,
      updatedAt: event.occurredAt,
      stepsSummary: stepsSummary ?? run.stepsSummary,
      ...(error && { error }),
      ...(toStatus === "running" && !run.startedAt && { startedAt: event.occurredAt }),
      ...(isEnd && { completedAt: event.occurredAt }),
    };
  }

  private applySummary(event: RunEvent): void {
    const run = this.run.peek();
    const summary = event.step!.stepsSummary;
    if (run !== null && summary !== undefined) {
      this.run.value = { ...run, stepsSummary: summary, updatedAt: event.occurredAt };
    }
  }
}

function payloads(run: Run | null): Partial<Run> {
  return {
    ...(run?.triggerPayload && { triggerPayload: run.triggerPayload }),
    ...(run?.changeRequest && { changeRequest: run.changeRequest }),
  };
}

function stepAfter(step: Step, event: RunEvent): Step {
  const { toStatus, outputSource, error, nextAttemptAt, cache, durationMs } = event.step!;
  const { progress: _, nextAttemptAt: __, error: ___, ...kept } = step;
  return {
    ...kept,
    status: toStatus,
    attempt: event.attempt,
    ...(toStatus === "ready" && { readyAt: event.occurredAt }),
    ...(toStatus === "running" && { startedAt: event.occurredAt }),
    ...(ENDED.has(toStatus) && { endedAt: event.occurredAt, durationMs }),
    ...(outputSource && { outputSource }),
    ...(outputSource === "executed" && { sourceRunId: step.runId }),
    ...(cache && { cache }),
    ...(cache?.sourceRunId && { sourceRunId: cache.sourceRunId }),
    ...(error && { error }),
    ...(nextAttemptAt && { nextAttemptAt }),
  };
}
