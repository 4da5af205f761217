// Follows a run to its end, through restarts of the server and broken connections: each event once, none missing.

import { Code, ConnectError, type Client } from "@connectrpc/connect";
import type { RunEngine, WatchRunResponse } from "./gen/runengine/v1/run_engine_pb";

// Another attempt can succeed: the server stopped, the connection broke (unknown) in the middle of a message (data
// loss), the reader was too slow.
const RESUMABLE = new Set([Code.Unavailable, Code.Unknown, Code.DataLoss, Code.ResourceExhausted, Code.DeadlineExceeded]);

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5_000;
// The server says something at least every 15 s; a connection silent for three times as long is dead.
const SILENCE_MS_MAX = 45_000;

export interface WatchOptions {
  // Where to go on: the sequence of the last message seen; 0n tells the whole history, undefined begins with a snapshot.
  afterSequence?: bigint;
  signal?: AbortSignal;
  // The stream broke and will be resumed after the delay.
  onInterrupted?: (reason: ConnectError, delayMs: number) => void;
  // The server answers (again).
  onConnected?: () => void;
}

/** The messages of a run up to its `end`; throws what trying again would not mend, such as an unknown run. */
export async function* watchRun(
  client: Client<typeof RunEngine>,
  runId: string,
  options: WatchOptions = {},
): AsyncGenerator<WatchRunResponse> {
  let afterSequence = options.afterSequence;
  let delayMs = FIRST_DELAY_MS;
  for (;;) {
    const silence = new Silence(options.signal);
    try {
      const messages = client.watchRun({ runId, afterSequence }, { signal: silence.signal });
      let isConnected = false;
      for await (const message of messages) {
        silence.heard();
        if (!isConnected) {
          isConnected = true;
          delayMs = FIRST_DELAY_MS;
          options.onConnected?.();
        }
        // A snapshot in parts counts when its last part is there.
        if (!(message.kind.case === "snapshot" && message.kind.value.more)) {
          afterSequence = message.sequence;
        }
        yield message;
        if (message.kind.case === "end") {
          return;
        }
      }
      throw new ConnectError("the stream ended before the run", Code.Unavailable);
    } catch (thrown) {
      const reason = ConnectError.from(thrown);
      options.signal?.throwIfAborted();
      if (!RESUMABLE.has(reason.code) && !silence.signal.aborted) {
        throw reason;
      }
      options.onInterrupted?.(reason, delayMs);
    } finally {
      silence.end();
    }
    await delay(delayMs * (0.5 + Math.random() / 2), options.signal);
    delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS);
  }
}

/** Aborts a call that has said nothing for too long, or when the caller gives up. */
class Silence {
  private readonly controller = new AbortController();
  private readonly giveUp = () => this.controller.abort(this.caller?.reason);
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly caller?: AbortSignal) {
    caller?.addEventListener("abort", this.giveUp);
    this.heard();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  heard(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.controller.abort(), SILENCE_MS_MAX);
  }

  end(): void {
    clearTimeout(this.timer);
    this.caller?.removeEventListener("abort", this.giveUp);
    this.controller.abort();
  }
}

function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", giveUp);
      resolve();
    }, ms);
    signal?.addEventListener("abort", giveUp);
  });
}
