// What a field of the payload is in a run, whether the payload says so or a step chose something in its place.
import { getStep } from "../api/runs";
import type { Json, JsonObject, Run, Workflow } from "../api/types";

/** The run's value of the field; undefined where neither its payload nor the input of a step tells. */
export async function presentValue(run: Run, workflow: Workflow, field: string): Promise<Json | undefined> {
  const given = run.triggerPayload?.[field];
  if (given !== undefined || !/^\w+$/.test(field)) return given;
  for (const { stepId, inputSelector } of workflow.steps) {
    const place = findChoice(inputSelector ?? {}, choosing(field));
    if (place !== null) return valueAt((await getStep(run.id, stepId))?.input, place);
  }
  return undefined;
}

/** Expressions that are the field or, without it, something else, and nothing more. */
function choosing(field: string): RegExp {
  const [ternary, optional] = [`has\\(trigger\\.${field}\\)\\s*\\?\\s*trigger\\.${field}\\s*:.+`, `trigger\\.\\?${field}\\.orValue\\([^()]*\\)`];
  return new RegExp(`^\\s*\\$\\{\\{\\s*(${ternary}|${optional})\\s*\\}\\}\\s*$`, "s");
}

/** The way to the first such expression of a selector. */
function findChoice(selector: Json, wanted: RegExp): readonly string[] | null {
  if (typeof selector === "string") return wanted.test(selector) ? [] : null;
  if (typeof selector !== "object" || selector === null) return null;
  for (const [key, part] of Object.entries(selector)) {
    const below = findChoice(part, wanted);
    if (below !== null) return [key, ...below];
  }
  return null;
}

function valueAt(value: Json | undefined, place: readonly string[]): Json | undefined {
  return place.reduce<Json | undefined>((at, key) => (at as JsonObject | undefined)?.[key], value);
}
