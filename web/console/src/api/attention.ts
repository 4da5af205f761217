// Whether somebody looks: browsers grant a host six connections in all, so pages nobody sees must not hold one.

/** Calls `act` when the page has been hidden for that long; once. The function returned ends the waiting. */
export function whenUnseen(afterMs: number, act: () => void): () => void {
  const over = new AbortController();
  let timer = 0;
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = window.setTimeout(act, afterMs);
  };
  document.addEventListener("visibilitychange", look, { signal: over.signal });
  look();
  return () => {
    over.abort();
    clearTimeout(timer);
  };
}

/** Waits until the page can be seen, or until `abort`. */
export function untilSeen(abort: AbortSignal): Promise<void> {
  if (!document.hidden || abort.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const over = new AbortController();
    const look = () => {
      if (document.hidden && !abort.aborted) return;
      over.abort();
      resolve();
    };
    document.addEventListener("visibilitychange", look, { signal: over.signal });
    abort.addEventListener("abort", look, { signal: over.signal });
  });
}
