"""How long a plan is expected to take: its steps by history, the run along its longest chain of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from runengine_server.domain.ids import StepNo
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.states import PlanAction
from runengine_server.planner.compiled import CompiledWorkflow


def steps_to_estimate(plan: RebuildPlan) -> list[StepNo]:
    """Return the steps that execute or may."""
    return [StepNo(number) for number, step in enumerate(plan.steps) if step.action is not PlanAction.REUSE]


def with_estimates(plan: RebuildPlan, compiled: CompiledWorkflow, durations_s: Mapping[StepNo, float]) -> RebuildPlan:
    """Return the plan with what its steps took before; the run's estimate is unset when one of them is unknown."""
    steps = tuple(
        step
        if step.action is PlanAction.REUSE or StepNo(number) not in durations_s
        else replace(step, estimate_s=durations_s[StepNo(number)])
        for number, step in enumerate(plan.steps)
    )
    return replace(plan, steps=steps, estimate_s=_critical_path_s(steps, compiled))


def _critical_path_s(steps: Sequence[PlannedStep], compiled: CompiledWorkflow) -> float | None:
    ends_s = [0.0] * len(steps)
    for number in compiled.order:
        step = steps[number]
        if step.action is PlanAction.REUSE:
            continue  # there already, whatever it depends on
        if step.estimate_s is None:
            return None
        begin_s = max((ends_s[needed] for needed in compiled.dependencies[number]), default=0.0)
        ends_s[number] = begin_s + step.estimate_s
    return max(ends_s, default=0.0)
