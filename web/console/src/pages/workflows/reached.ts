// Which steps a change reaches: those it names, and everything that waits for them.
import type { Workflow } from "../../api/types";

const ALL = "*";

export function reached(workflow: Workflow, change: string | null): ReadonlyMap<string, "seed" | "downstream"> {
  const rule = change === null ? undefined : workflow.changeRequests?.[change];
  const found = new Map<string, "seed" | "downstream">();
  if (rule === undefined) return found;
  const seeds = rule.seedStepIds.includes(ALL) ? workflow.steps.map((step) => step.stepId) : rule.seedStepIds;
  for (const seed of seeds) found.set(seed, "seed");
  const followers = new Map<string, string[]>();
  for (const { stepId, dependsOn = [] } of workflow.steps) {
    for (const dependency of dependsOn) followers.set(dependency, [...(followers.get(dependency) ?? []), stepId]);
  }
  const due = [...seeds];
  for (const id of due) {
    for (const follower of followers.get(id) ?? []) {
      if (found.has(follower)) continue;
      found.set(follower, "downstream");
      due.push(follower);
    }
  }
  return found;
}
