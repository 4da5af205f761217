// Everything that happened, from the first event on, live.
import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { eventsPath, followEvents, type Message } from "../../../api/event_stream";
import type { RunEvent } from "../../../api/types";
import { clock, count, duration } from "../../../format";
import { statusWord } from "../../../parts/status";
import { VirtualList } from "../../../parts/virtual_list";
import type { TabProps } from "./tab";

const ROW = 30;
const KEPT_MAX = 5_000;

export function EventsTab({ model, step, select }: TabProps) {
  const log = useMemo(() => new EventLog(), [model]);
  useEffect(() => log.follow(model.runId), [log]);
  const { events, dropped } = log.kept.value;
  return (
    <div class="events-tab">
      {dropped > 0 && <p class="graph-note">The latest {count(KEPT_MAX)} events; {count(dropped)} before them are not shown.</p>}
      <VirtualList
        count={events.length}
        rowHeight={ROW}
        label="Events"
        followsEnd
        renderRow={(index) => {
          const event = events[index]!;
          return <EventRow key={event.sequence} event={event} isSelected={event.stepId === step} select={select} />;
        }}
      />
    </div>
  );
}

class EventLog {
  readonly kept = signal<{ events: readonly RunEvent[]; dropped: number }>({ events: [], dropped: 0 });

  follow(runId: string): () => void {
    const abort = new AbortController();
    void followEvents(eventsPath(runId), (messages) => this.take(messages), abort.signal, { after: 0 });
    return () => abort.abort();
  }

  private take(messages: Message[]): void {
    const news = messages
      .filter((message) => message.id !== "" && message.event !== "end" && message.event !== "snapshot")
      .map((message) => JSON.parse(message.data) as RunEvent);
    if (news.length === 0) return;
    const { events, dropped } = this.kept.peek();
    const all = [...events, ...news];
    const excess = Math.max(0, all.length - KEPT_MAX);
    this.kept.value = { events: excess ? all.slice(excess) : all, dropped: dropped + excess };
  }
}

interface RowProps {
  readonly event: RunEvent;
  readonly isSelected: boolean;
  readonly select: (stepId: string | null) => void;
}

function EventRow({ event, isSelected, select }: RowProps) {
  const to = event.step?.toStatus ?? event.run?.toStatus;
  return (
    <button
      type="button"
      class={`event-row ${to ? `s-${to}` : ""} ${isSelected ? "selected" : ""}`}
      style={{ height: `${ROW}px` }}
      disabled={event.stepId === undefined}
      onClick={() => select(event.stepId ?? null)}
    >
      <span class="quiet number">{event.sequence}</span>
      <time class="quiet number" dateTime={event.occurredAt}>
        {clock(event.occurredAt)}
      </time>
      <span class="dot" />
      <span class="event-subject">{event.stepId ?? "run"}</span>
      <span class="event-words">{wordsOf(event)}</span>
    </button>
  );
}

function wordsOf({ run, step, artifact, attempt }: RunEvent): string {
  if (artifact) return `published ${artifact.filename ?? artifact.type}`;
  if (run) return run.error ? `${run.toStatus}: ${run.error.code}` : run.toStatus;
  if (!step) return "";
  const parts = [statusWord(step.toStatus)];
  if (step.outputSource && step.outputSource !== "executed") parts.push(`from ${step.outputSource.replace("_", " ")}`);
  if (step.toStatus === "completed") parts.push(`in ${duration(step.durationMs)}`);
  if (attempt > 1) parts.push(`attempt ${attempt}`);
  if (step.error) parts.push(step.error.code);
  return parts.join(" · ");
}
