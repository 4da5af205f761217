// Server-sent events read with fetch, as EventSource sends no header: parsed, resumed, and watched for silence.
import { signal, type Signal } from "@preact/signals";
import { untilSeen, whenUnseen } from "./attention";
import { ApiError, send } from "./client";

export type Connection = "connecting" | "live" | "stale" | "paused" | "ended" | "refused";

/** How a stream is doing; `heardAt` is when the last byte came. */
export interface Health {
  readonly connection: Connection;
  readonly heardAt: number;
  readonly error: Error | null;
}

export interface Message {
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

const HEARTBEAT_MS = 5_000; // the least that the engine takes
const SILENCE_MS_MAX = 2.5 * HEARTBEAT_MS;
const UNSEEN_MS_MAX = 10_000;
const BACKOFF_MS = 500;
const BACKOFF_MS_MAX = 15_000;
const AFTER_END = 204;

/**
 * Reads a run's events until it ended, the engine refuses for good, or `abort` says so; each time resumed after the
 * last id that was heard. Pauses while nobody looks.
 */
export async function followEvents(
  path: string,
  onMessages: (messages: Message[]) => void,
  abort: AbortSignal,
  options: { after?: number; health?: Signal<Health> } = {},
): Promise<void> {
  const health = options.health ?? signal<Health>(INITIAL);
  let lastId = options.after === undefined ? "" : String(options.after);
  let failures = 0;
  while (!abort.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    abort.addEventListener("abort", stop);
    const silence = new Silence(stop);
    const forgetUnseen = whenUnseen(UNSEEN_MS_MAX, stop);
    try {
      silence.heard();
      const answer = await send(path, { headers: headers(lastId) }, attempt.signal);
      if (answer.status === AFTER_END) return end(health);
      for await (const messages of parse(answer.body!)) {
        failures = 0;
        silence.heard();
        health.value = { connection: "live", heardAt: Date.now(), error: null };
        for (const message of messages) if (message.id) lastId = message.id;
        onMessages(messages.filter((message) => message.event !== "bookmark"));
        if (messages.some((message) => message.event === "end")) return end(health);
      }
    } catch (error) {
      if (abort.aborted) return;
      if (error instanceof ApiError && isFinal(error)) {
        // Of what is not there, too, this is all that will ever be heard.
        health.value = { connection: error.status === 404 ? "ended" : "refused", heardAt: Date.now(), error };
        return;
      }
    } finally {
      silence.stop();
      forgetUnseen();
      abort.removeEventListener("abort", stop);
    }
    if (document.hidden) {
      health.value = { ...health.value, connection: "paused" };
      await untilSeen(abort);
      continue;
    }
    health.value = { ...health.value, connection: "stale" };
    await pause(backoff(failures++), abort);
  }
}

export const INITIAL: Health = { connection: "connecting", heardAt: Date.now(), error: null };

function end(health: Signal<Health>): void {
  health.value = { connection: "ended", heardAt: Date.now(), error: null };
}

function headers(lastId: string): HeadersInit {
  return lastId ? { accept: "text/event-stream", "last-event-id": lastId } : { accept: "text/event-stream" };
}

/** What asking again does not mend. */
function isFinal(error: ApiError): boolean {
  return error.status >= 400 && error.status < 500 && error.status !== 408 && error.status !== 429;
}

function backoff(failures: number): number {
  const most = Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** failures);
  return most / 2 + (Math.random() * most) / 2; // so that pages do not come back all at once
}

/** The events of a body, as many at a time as one chunk of the network completes. */
export async function* parse(body: ReadableStream<Uint8Array>): AsyncGenerator<Message[]> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop()!;
    const messages = blocks.map(message).filter((each) => each.data !== "");
    if (messages.length > 0) yield messages;
  }
}

function message(block: string): Message {
  const fields: Record<string, string> = { id: "", event: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (name !== undefined) fields[name] = name === "data" && fields["data"] ? `${fields["data"]}\n${value}` : value!;
  }
  return fields as unknown as Message;
}

/** Ends an attempt that hears nothing for longer than the engine's heartbeat allows. */
class Silence {
  private timer = 0;

  constructor(private readonly onSilence: () => void) {}

  heard(): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(this.onSilence, SILENCE_MS_MAX);
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}

/** Waits, but no longer than until the network is back or the reader looks again. */
function pause(ms: number, abort: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = new AbortController();
    const done = () => {
      over.abort();
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done, { signal: over.signal });
    abort.addEventListener("abort", done, { signal: over.signal });
  });
}

export function eventsPath(runId: string): string {
  return `/runs/${encodeURIComponent(runId)}/events?includeProgress=true&heartbeatIntervalMs=${HEARTBEAT_MS}`;
}
