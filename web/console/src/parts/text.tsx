// Small pieces of text with behaviour: ids that copy, moments, JSON.
import { useState } from "preact/hooks";
import type { Json } from "../api/types";
import { ago, moment, shortId } from "../format";
import { Icon } from "./icons";

const COPIED_MS = 1200;
const JSON_CHARACTERS_MAX = 100_000;

export function Copy({ text, what }: { text: string; what: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async (event: Event) => {
    event.preventDefault();
    event.stopPropagation();
    await putOnClipboard(text);
    setCopied(true);
    setTimeout(() => setCopied(false), COPIED_MS);
  };
  return (
    <button class="icon-button copy" type="button" title={`Copy ${what}`} aria-label={`Copy ${what}`} onClick={copy}>
      <Icon name={copied ? "check" : "copy"} />
    </button>
  );
}

/** Browsers offer the clipboard to encrypted and local pages only; elsewhere the old command does it. */
async function putOnClipboard(text: string): Promise<void> {
  if (navigator.clipboard !== undefined) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

export function RunLink({ id, step }: { id: string; step?: string }) {
  return (
    <a class="mono" href={`/runs/${encodeURIComponent(id)}${step ? `?step=${encodeURIComponent(step)}` : ""}`} title={id}>
      {shortId(id)}
    </a>
  );
}

/** How long ago, and on hover when. */
export function When({ at }: { at: string }) {
  return (
    <time dateTime={at} title={moment(at)}>
      {ago(at)}
    </time>
  );
}

const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** JSON, laid out and coloured; of a very long one the beginning, and all of it by Copy. */
export function JsonView({ value, label }: { value: Json | undefined; label: string }) {
  if (value === undefined) return <p class="quiet">none</p>;
  const text = JSON.stringify(value, null, 2);
  const shown = text.slice(0, JSON_CHARACTERS_MAX);
  return (
    <div class="json">
      <Copy text={text} what={label} />
      <pre tabIndex={0} aria-label={label}>
        {coloured(shown)}
        {shown.length < text.length && <span class="quiet"> … {text.length - shown.length} characters more</span>}
      </pre>
    </div>
  );
}

function coloured(text: string) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(TOKENS)) {
    const [all, quoted, colon, literal] = found;
    parts.push(text.slice(end, found.index));
    const kind = quoted === undefined ? (literal === undefined ? "j-number" : "j-word") : colon ? "j-key" : "j-text";
    parts.push(<span class={kind}>{quoted ?? all}</span>, colon ?? "");
    end = found.index + all.length;
  }
  parts.push(text.slice(end));
  return parts;
}
