"""How the steps of one version of a workflow continue those of another: by step id, and whether they changed."""

from collections.abc import Mapping

from runengine_server.domain.base_run import BaseResult
from runengine_server.domain.ids import StepNo
from runengine_server.planner.compiled import CompiledWorkflow


def continued_steps(base: CompiledWorkflow, now: CompiledWorkflow) -> Mapping[StepNo, StepNo]:
    """Return, for each step of `now` that `base` has too, its number there."""
    return {number: base.step_no[step_id] for step_id, number in now.step_no.items() if step_id in base.step_no}


def changed_steps(base: CompiledWorkflow, now: CompiledWorkflow) -> frozenset[StepNo]:
    """Return the steps both have whose skill, canonical selector, dependencies or scope differ, by number in `now`."""
    if base.workflow.digest == now.workflow.digest:
        return frozenset()
    return frozenset(
        number for number, earlier in continued_steps(base, now).items() if _is_changed(base, earlier, now, number)
    )


def continued_results(
    base: CompiledWorkflow, now: CompiledWorkflow, results: Mapping[StepNo, BaseResult]
) -> Mapping[StepNo, BaseResult]:
    """Return a base run's results, which are by number in `base`, by number in `now`."""
    if base.workflow.digest == now.workflow.digest:
        return results
    return {number: results[earlier] for number, earlier in continued_steps(base, now).items() if earlier in results}


def comparable_results(
    base: CompiledWorkflow, now: CompiledWorkflow, results: Mapping[StepNo, BaseResult]
) -> Mapping[StepNo, BaseResult]:
    """Return those of `continued_results` whose fingerprint can be equal: same skill, same cache epoch."""
    if base.workflow.digest == now.workflow.digest:
        return results
    if base.workflow.cache_epoch != now.workflow.cache_epoch:
        return {}
    skill_before = {step.step_id: step.skill_id for step in base.workflow.steps}
    steps = now.workflow.steps
    return {
        number: result
        for number, result in continued_results(base, now, results).items()
        if skill_before[steps[number].step_id] == steps[number].skill_id
    }


def _is_changed(base: CompiledWorkflow, earlier: StepNo, now: CompiledWorkflow, number: StepNo) -> bool:
    before, after = base.workflow.steps[earlier], now.workflow.steps[number]
    return (
        before.skill_id != after.skill_id
        or before.cache_policy.scope is not after.cache_policy.scope
        or set(before.depends_on) != set(after.depends_on)
        or base.selectors[earlier].canonical() != now.selectors[number].canonical()
    )
