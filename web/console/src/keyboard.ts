// Keys: pages say which keys they answer while they are shown, and the help dialog lists them.
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

export interface Shortcut {
  readonly keys: string;
  readonly does: string;
  readonly run: (event: KeyboardEvent) => void;
}

/** What answers now, the last one first. */
export const shortcuts = signal<readonly Shortcut[]>([]);

/** These keys answer while the component is shown; `g r` is one key after the other. Their list stays of one length. */
export function useShortcuts(mine: readonly Shortcut[]): void {
  const latest = useRef(mine);
  latest.current = mine;
  // Before the first paint: who sees a page can use its keys.
  useLayoutEffect(() => {
    const registered = mine.map((each, index) => ({
      ...each,
      run: (event: KeyboardEvent) => latest.current[index]?.run(event),
    }));
    shortcuts.value = [...registered, ...shortcuts.peek()];
    return () => {
      shortcuts.value = shortcuts.peek().filter((each) => !registered.includes(each));
    };
  }, []);
}

export function listenToKeys(): void {
  let before = "";
  addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey || isTyping(event.target)) return;
    const pressed = before ? `${before} ${event.key}` : event.key;
    before = "";
    const found = shortcuts.value.find((each) => each.keys === pressed);
    if (found !== undefined) {
      event.preventDefault();
      found.run(event);
    } else if (shortcuts.value.some((each) => each.keys.startsWith(`${pressed} `))) {
      before = pressed;
    }
  });
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  const inDialog = target.closest("dialog[open]") !== null;
  return inDialog || target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}
