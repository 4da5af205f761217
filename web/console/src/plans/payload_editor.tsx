// Edits a JSON object as text, and offers the fields that the workflow knows.
import { useRef } from "preact/hooks";
import type { Json, JsonObject } from "../api/types";

interface Props {
  readonly text: string;
  readonly onText: (text: string) => void;
  readonly schema: JsonObject | undefined;
  /** What a field is at present, where anybody knows; what is offered to begin with. */
  readonly present?: (field: string) => Promise<Json | undefined>;
  /** The change in words; the fields that it names are offered first. */
  readonly described?: string;
}

const ROWS_MIN = 5;
const ROWS_MAX = 16;

export function PayloadEditor({ text, onText, schema, present, described = "" }: Props) {
  const value = readObject(text);
  const fields = Object.entries((schema?.["properties"] ?? {}) as Record<string, JsonObject>);
  const named = new Set(described.split(/\W+/));
  const offered = (value instanceof Error ? [] : fields.filter(([name]) => !(name in value))).sort(
    ([left], [right]) => Number(named.has(right)) - Number(named.has(left)),
  );
  const latest = useRef(value);
  latest.current = value;
  const add = async (name: string, field: JsonObject) => {
    const added = (await present?.(name).catch(() => undefined)) ?? example(field);
    if (latest.current instanceof Error || name in latest.current) return;
    latest.current = { ...latest.current, [name]: added };
    onText(JSON.stringify(latest.current, null, 2));
  };
  return (
    <>
      <label class="field">
        Payload
        <textarea
          class={value instanceof Error ? "wrong" : ""}
          rows={Math.max(ROWS_MIN, Math.min(ROWS_MAX, text.split("\n").length))}
          spellcheck={false}
          value={text}
          aria-invalid={value instanceof Error}
          onInput={(event) => onText(event.currentTarget.value)}
        />
      </label>
      {value instanceof Error && (
        <p class="wrong-text" role="alert">
          {value.message}
        </p>
      )}
      {offered.length > 0 && (
        <p class="offered">
          <span class="quiet">Add</span>
          {offered.map(([name, field]) => (
            <button key={name} type="button" class={named.has(name) ? "chip named" : "chip"} title={describe(field)} onClick={() => add(name, field)}>
              {name}
            </button>
          ))}
        </p>
      )}
    </>
  );
}

/** The object that the text is, or what is wrong with it. */
export function readObject(text: string): JsonObject | Error {
  try {
    const value = JSON.parse(text) as Json;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
    return new Error("The payload has to be an object: { … }");
  } catch (error) {
    return new Error(`This is no JSON yet: ${(error as Error).message}`);
  }
}

/** A value to begin with: of an object the members that it has to have. */
export function example(field: JsonObject): Json {
  if ("default" in field) return field["default"]!;
  if (Array.isArray(field["enum"])) return field["enum"][0] ?? null;
  if (field["type"] === "object") {
    const members = (field["properties"] ?? {}) as Record<string, JsonObject>;
    const required = (field["required"] ?? []) as string[];
    return Object.fromEntries(required.map((name) => [name, example(members[name] ?? {})]));
  }
  const { minimum = 1, maximum = 1 } = field as { minimum?: number; maximum?: number };
  const one = Math.max(minimum, Math.min(maximum, 1));
  return { string: "", boolean: false, array: [], integer: one, number: one }[String(field["type"])] ?? null;
}

function describe(field: JsonObject): string {
  const choices = Array.isArray(field["enum"]) ? `one of ${field["enum"].join(", ")}` : String(field["type"] ?? "");
  return [choices, field["description"]].filter(Boolean).join(": ");
}
