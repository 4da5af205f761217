// The steps of a definition with their levels: one more than the highest level among those a step waits for.
import type { StepDefinition } from "../../api/types";
import type { Foldable } from "../../graph/folding";

/** In the order of the definition, in which a step comes after those it waits for only by custom. */
export function definitionLevels(steps: readonly StepDefinition[]): readonly Foldable[] {
  const waitsFor = new Map(steps.map((step) => [step.stepId, step.dependsOn ?? []]));
  const followers = new Map<string, string[]>();
  const open = new Map<string, number>();
  for (const [id, dependencies] of waitsFor) {
    open.set(id, dependencies.length);
    for (const dependency of dependencies) followers.set(dependency, [...(followers.get(dependency) ?? []), id]);
  }
  const levels = new Map<string, number>();
  const due = [...open].filter(([, count]) => count === 0).map(([id]) => id);
  for (const id of due) {
    levels.set(id, waitsFor.get(id)!.reduce((most, each) => Math.max(most, levels.get(each)! + 1), 0));
    for (const follower of followers.get(id) ?? []) {
      open.set(follower, open.get(follower)! - 1);
      if (open.get(follower) === 0) due.push(follower);
    }
  }
  return steps.map((step) => ({
    id: step.stepId,
    dependsOn: waitsFor.get(step.stepId)!,
    level: levels.get(step.stepId)!,
    skillId: step.skillId,
  }));
}
