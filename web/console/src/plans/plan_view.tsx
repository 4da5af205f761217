// What a plan would execute and reuse, and why.
import type { PlannedStep, RebuildPlan } from "../api/types";
import { count, duration } from "../format";
import { Icon, type IconName } from "../parts/icons";

const ACTIONS: Record<PlannedStep["action"], { name: string; icon: IconName; look: string }> = {
  execute: { name: "execute", icon: "ready", look: "s-running" },
  unknown: { name: "decided on the way", icon: "queued", look: "s-ready" },
  reuse: { name: "reuse", icon: "skipped", look: "s-skipped" },
};
const ORDER = ["execute", "unknown", "reuse"] as const;

const REASONS: Record<string, string> = {
  initial: "first run",
  seed: "named by the change",
  downstream: "follows from",
  widened: "its input changed, though the change does not name it",
  forced: "forced",
  no_base_output: "the base has no output",
  definition_changed: "its definition changed",
  unaffected: "not affected",
  input_unchanged: "same input",
  cached: "in the cache",
};

const SHOWN_MAX = 200;
const NAMED_MAX = 3;

export function PlanView({ plan, isChanged }: { plan: RebuildPlan; isChanged: boolean }) {
  const counts = { execute: plan.executeCount, unknown: plan.unknownCount, reuse: plan.reuseCount };
  const steps = ORDER.flatMap((action) => plan.steps.filter((step) => step.action === action));
  return (
    <section class="plan" aria-label="Plan">
      {isChanged && (
        <p class="plan-changed" role="alert">
          Something changed since the plan was made. This is the plan now; look at it again.
        </p>
      )}
      <p class="plan-sum">
        {ORDER.filter((action) => counts[action] > 0).map((action) => (
          <span key={action} class={ACTIONS[action].look}>
            <Icon name={ACTIONS[action].icon} />
            <strong class="number">{count(counts[action])}</strong> {ACTIONS[action].name}
          </span>
        ))}
        {plan.estimateMs !== undefined && plan.estimateMs > 0 && (
          <span class="plan-estimate">
            takes about <strong class="number">{duration(plan.estimateMs)}</strong>
          </span>
        )}
      </p>
      <ol class="plan-steps" tabIndex={0} aria-label="Planned steps">
        {steps.slice(0, SHOWN_MAX).map((step) => (
          <PlanRow key={step.stepId} step={step} />
        ))}
        {steps.length > SHOWN_MAX && <li class="quiet">and {count(steps.length - SHOWN_MAX)} more</li>}
      </ol>
    </section>
  );
}

function PlanRow({ step }: { step: PlannedStep }) {
  const { icon, look, name } = ACTIONS[step.action];
  const [causes, pointers] = [step.causedBy ?? [], step.changedPointers ?? []];
  return (
    <li class={`plan-row ${look}`} data-step={step.stepId} data-action={step.action}>
      <Icon name={icon} />
      <span class="visually-hidden">{name}</span>
      <span class="step-name" title={step.stepId}>{step.stepId}</span>
      <span class="plan-why">
        {REASONS[step.reason] ?? step.reason}
        {step.reason === "downstream" && ` ${named(causes)}`}
        {pointers.slice(0, NAMED_MAX).map((pointer) => (
          <code key={pointer} class="chip">
            {pointer}
          </code>
        ))}
      </span>
      <span class="quiet number">{step.estimateMs ? duration(step.estimateMs) : ""}</span>
    </li>
  );
}

function named(ids: readonly string[]): string {
  const more = ids.length - NAMED_MAX;
  return ids.slice(0, NAMED_MAX).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
