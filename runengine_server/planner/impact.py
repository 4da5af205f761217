"""Which steps a run affects before any input is looked at, and why; soundness may widen it later."""

from collections.abc import Collection, Sequence

from runengine_server.domain.ids import StepNo
from runengine_server.domain.states import CacheMode, PlanAction, PlanReason
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.decision import step_cache_mode

Impact = dict[StepNo, PlanReason]


def initial_impact(compiled: CompiledWorkflow, *, forced: Collection[StepNo]) -> Impact:
    """Return every step: a run without a base affects all of them."""
    impact = dict.fromkeys(compiled.order, PlanReason.INITIAL)
    impact.update(dict.fromkeys(forced, PlanReason.FORCED))
    return impact


def update_impact(
    compiled: CompiledWorkflow,
    *,
    seeds: Collection[StepNo],
    forced: Collection[StepNo],
    changed: Collection[StepNo],
    missing: Collection[StepNo],
) -> Impact:
    """Return what an update affects: its causes and everything downstream of them.

    Args:
        compiled: the version to build with.
        seeds: the steps the change type names.
        forced: the steps the request forces.
        changed: the steps that the base's version defines otherwise.
        missing: the steps of which the base has no output; what follows them may turn out otherwise than what it read.
    """
    impact = dict.fromkeys(compiled.closure([*seeds, *forced, *changed, *missing]), PlanReason.DOWNSTREAM)
    impact.update(dict.fromkeys(missing, PlanReason.NO_BASE_OUTPUT))
    impact.update(dict.fromkeys(changed, PlanReason.DEFINITION_CHANGED))
    impact.update(dict.fromkeys(seeds, PlanReason.SEED))  # which REFRESH covers
    impact.update(dict.fromkeys(forced, PlanReason.FORCED))
    return impact


def extend_impact(impact: Impact, compiled: CompiledWorkflow, step: StepNo) -> None:
    """Add what is downstream of a step; looks no further where a step is affected already, for then all below it is."""
    pending = [step]
    while pending:
        for dependent in compiled.dependents[pending.pop()]:
            if dependent not in impact:
                impact[dependent] = PlanReason.DOWNSTREAM
                pending.append(dependent)


def retry_impact(
    retried: Sequence[tuple[PlanAction, PlanReason]], mode: CacheMode, missing: Collection[StepNo]
) -> Impact:
    """Return the steps that the retried run did not finish, and no others: what it finished stays as it is.

    A step that was to be executed whatever the cache holds (forced, or refreshed) still is, and keeps its reason.
    """
    return {
        step: reason
        if step_cache_mode(mode, reason := retried[step][1]) is CacheMode.REFRESH
        else PlanReason.NO_BASE_OUTPUT
        for step in missing
    }
