// Large graphs are shown folded: steps of one level and skill as one node, so that ten thousand stay readable.
import type { GraphNode } from "./layout";

/** What folding needs to know of a step. */
export interface Foldable extends GraphNode {
  readonly level: number;
  readonly skillId: string;
}

export interface Group extends GraphNode {
  readonly title: string;
  readonly members: readonly string[];
  readonly levels: readonly [number, number];
  /** The skill of all members, null where there are several. */
  readonly skillId: string | null;
}

export const UNFOLDED_MAX = 150;
const GROUPS_MAX = 120;

/** The groups, at most about a hundred: by level and skill, by level, or by ranges of levels. */
export function fold(steps: readonly Foldable[]): readonly Group[] {
  const bySkill = grouped(steps, (step) => `${step.level} ${step.skillId}`);
  if (bySkill.length <= GROUPS_MAX) return bySkill;
  const levels = 1 + steps.reduce((most, step) => Math.max(most, step.level), 0);
  const span = Math.ceil(levels / GROUPS_MAX);
  return grouped(steps, (step) => `${Math.floor(step.level / span)}`);
}

function grouped(steps: readonly Foldable[], keyOf: (step: Foldable) => string): readonly Group[] {
  const keys = new Map(steps.map((step) => [step.id, keyOf(step)]));
  const members = new Map<string, Foldable[]>();
  for (const step of steps) {
    const key = keys.get(step.id)!;
    const known = members.get(key);
    if (known === undefined) members.set(key, [step]);
    else known.push(step);
  }
  return [...members].map(([key, all]) => group(key, all, keys));
}

function group(id: string, all: readonly Foldable[], keys: ReadonlyMap<string, string>): Group {
  const before = new Set<string>();
  let [first, last] = [Infinity, 0];
  let skillId: string | null = all[0]!.skillId;
  for (const step of all) {
    for (const dependency of step.dependsOn) {
      const key = keys.get(dependency);
      if (key !== undefined && key !== id) before.add(key);
    }
    first = Math.min(first, step.level);
    last = Math.max(last, step.level);
    if (step.skillId !== skillId) skillId = null;
  }
  return {
    id,
    dependsOn: [...before],
    title: skillId ?? (first === last ? `level ${first}` : `levels ${first} to ${last}`),
    members: all.map((step) => step.id),
    levels: [first, last],
    skillId,
  };
}
