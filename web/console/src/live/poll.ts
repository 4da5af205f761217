// What is read again and again while somebody looks: lists have no stream of their own.
import { signal, type ReadonlySignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

export interface Polled<T> {
  readonly value: T | null;
  readonly error: Error | null;
  /** When the value was last true, in ms since the epoch. */
  readonly readAt: number;
  readonly isLoading: boolean;
}

const BACKOFF_MS_MAX = 30_000;

/**
 * The latest answer of `read`, asked again every `everyMs` while the page is visible, less often while it fails; 0
 * asks once. What is in `key` decides what is read: another key forgets the value.
 */
export function usePolled<T>(
  key: string,
  everyMs: number,
  read: (abort: AbortSignal) => Promise<T>,
): ReadonlySignal<Polled<T>> & { again: () => void } {
  const polled = useMemo(() => new Poll<T>(), [key]);
  polled.read = read;
  useEffect(() => polled.start(everyMs), [polled, everyMs]);
  return useMemo(() => Object.assign(polled.state, { again: () => polled.again() }), [polled]);
}

class Poll<T> {
  readonly state = signal<Polled<T>>({ value: null, error: null, readAt: 0, isLoading: true });
  read!: (abort: AbortSignal) => Promise<T>;
  private wake: () => void = () => {};

  again(): void {
    this.wake();
  }

  start(everyMs: number): () => void {
    const abort = new AbortController();
    const look = () => document.hidden || this.wake();
    document.addEventListener("visibilitychange", look, { signal: abort.signal });
    void this.loop(everyMs, abort.signal);
    return () => {
      abort.abort();
      this.wake();
    };
  }

  private async loop(everyMs: number, abort: AbortSignal): Promise<void> {
    let failures = 0;
    while (!abort.aborted) {
      if (!document.hidden || this.state.peek().readAt === 0) {
        try {
          const value = await this.read(abort);
          failures = 0;
          this.state.value = { value, error: null, readAt: Date.now(), isLoading: false };
        } catch (error) {
          if (abort.aborted) return;
          failures++;
          this.state.value = { ...this.state.peek(), error: error as Error, isLoading: false };
        }
      }
      const pauseMs = Math.min(BACKOFF_MS_MAX, (everyMs || BACKOFF_MS_MAX) * 2 ** failures);
      await this.pause(everyMs === 0 && failures === 0 ? null : pauseMs);
    }
  }

  private pause(ms: number | null): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === null ? 0 : setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
