// A field whose text counts once it is left, or Enter is pressed; until then nothing that is drawn anew overwrites it.
import type { RefObject } from "preact";
import { useState } from "preact/hooks";

interface Props {
  readonly value: string;
  readonly onCommit: (text: string) => void;
  readonly placeholder: string;
  /** Where no label is around it. */
  readonly label?: string;
  readonly input?: RefObject<HTMLInputElement | null>;
}

export function DraftInput({ value, onCommit, placeholder, label, input }: Props) {
  const [draft, setDraft] = useState<string | null>(null);
  return (
    <input
      ref={input ?? null}
      aria-label={label}
      placeholder={placeholder}
      spellcheck={false}
      value={draft ?? value}
      onInput={(event) => setDraft(event.currentTarget.value)}
      onChange={(event) => {
        setDraft(null);
        onCommit(event.currentTarget.value.trim());
      }}
    />
  );
}
