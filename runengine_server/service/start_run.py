"""Plan a run and start it: what Trigger, TriggerUpdate and RetryRun do alike once they know what they want."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache as remembered
from typing import Final

import anyio.to_thread

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.caller import Caller
from runengine_server.domain.errors import ChangedError, PreconditionError, RunEngineError
from runengine_server.domain.ids import RunId, RunKey, StepNo
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, FailurePolicy, PlanAction, PlanReason, RunStatus, TriggerType
from runengine_server.domain.trace_context import TraceContext, run_span
from runengine_server.domain.workflow import StepDefinition
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.planning import PlanRequest
from runengine_server.planner.skill_schema import SkillSchemas
from runengine_server.ports.output_cache import OutputCache, PlanningCache
from runengine_server.ports.run_store import (
    Assumptions,
    EarlierAnswer,
    NewRun,
    Outdated,
    RequestKey,
    RunFacts,
    RunStore,
)
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.ports.tracer import UNTRACED, Tracer
from runengine_server.ports.work_signal import WorkSignal
from runengine_server.ports.workflow_store import WorkflowStore
from runengine_server.service.assumed_cache import AssumedCache
from runengine_server.service.estimates import History, estimated
from runengine_server.service.message_size import fitting_plan
from runengine_server.service.messages import TriggerAnswer
from runengine_server.service.new_run import encode_answer, lay_out, repeated_answer
from runengine_server.service.planning import PLANNED_INLINE_STEPS_MAX, make_plan
from runengine_server.service.skill_inputs import PlannedRun, check_inputs
from runengine_server.service.workflow_catalogue import WorkflowCatalogue

_WIDENED_SHOWN_MAX: Final = 10
_POINTERS_SHOWN_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRuns:
    """What it takes to start a run of any kind."""

    catalogue: WorkflowCatalogue
    workflows: WorkflowStore
    store: RunStore
    cache: PlanningCache
    skills: SkillRunner
    signal: WorkSignal
    schemas: SkillSchemas = field(default_factory=SkillSchemas)
    tracer: Tracer = UNTRACED


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A run that is checked and ready to be planned and stored; `base_compiled` is the base's own version.

    `assumed_version`: see `Assumptions`.
    """

    caller: Caller
    run_id: RunId
    compiled: CompiledWorkflow
    trigger_type: TriggerType
    payload: JsonObject
    payload_body: bytes
    mode: CacheMode
    failure_policy: FailurePolicy
    labels: Mapping[str, str]
    priority: int
    deadline_s: float | None = None
    change: ChangeRequest | None = None
    base: BaseRun | None = None
    base_compiled: CompiledWorkflow | None = None
    seeds: tuple[StepNo, ...] = ()
    forced: tuple[StepNo, ...] = ()
    assumed_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCall:
    """How a call wants its run started.

    Attributes:
        caller: who calls.
        key: what makes the call repeatable.
        message: what the answer says of the plan.
        validate_only: whether to answer with the plan and write nothing.
        expected_plan_digest: the plan the caller has seen; empty when any will do.
        is_strict: whether to refuse a plan that goes beyond the declared impact.
        shows_plan: whether the answer carries the plan also when a run starts.
    """

    caller: Caller
    key: RequestKey
    message: Callable[[RebuildPlan], str]
    validate_only: bool
    expected_plan_digest: str
    is_strict: bool = False
    shows_plan: bool = True


async def start_assuming(start: StartRuns, call: StartCall, draft: Awaitable[Draft]) -> TriggerAnswer | None:
    """As `start_run` for an answer without a plan, but takes for granted what is probably so instead of asking for it.

    None, and nothing is started, where it is not so, and where the run would be refused: `start_run` says what holds.

    Raises:
        ConflictError: REQUEST_ID_REUSED.
        ExhaustedError: QUEUE_FULL.
    """
    cache = AssumedCache(start.cache)
    try:
        checked = await draft
        plan = await _plan(start, checked, cache)
        await _check_inputs(start, checked, plan)
    except RunEngineError:
        return None
    assumes = Assumptions(version=checked.assumed_version, absent=cache.absent)
    return await _store(start, call, checked, plan, _answer(call, checked, plan), assumes)


async def start_run(start: StartRuns, call: StartCall, draft: Awaitable[Draft]) -> TriggerAnswer:
    """Plan what the draft says and, unless only planning was asked for, start exactly that.

    A repetition gets its first answer, even where the request could not be accepted any more.

    Raises:
        InvalidError: VALIDATION_FAILED, a skill would not accept its input.
        PreconditionError: IMPACT_WIDENED.
        ChangedError: PLAN_CHANGED.
        ConflictError: REQUEST_ID_REUSED.
        ExhaustedError: QUEUE_FULL.
        RunEngineError: what awaiting the draft raises.
    """
    try:
        checked = await draft
        plan = await _plan(start, checked, start.cache)
        await _check_inputs(start, checked, plan)
        _check_plan(call, checked, plan)
    except RunEngineError as refusal:
        return await _earlier_answer_or(start, call, refusal)
    shown = None
    if call.validate_only or call.shows_plan:
        history = History(store=start.store, versions=start.catalogue, tenant=call.caller.tenant, base=checked.base)
        shown = fitting_plan(await estimated(plan, checked.compiled, history))
    if call.validate_only:
        return TriggerAnswer(run_id=None, status=None, message=call.message(plan), plan=shown)
    answer = await _store(start, call, checked, plan, _answer(call, checked, plan, shown))
    assert answer is not None, "nothing was assumed"
    return answer


async def _earlier_answer_or(start: StartRuns, call: StartCall, refusal: RunEngineError) -> TriggerAnswer:
    earlier = None if call.validate_only else await start.store.earlier_answer(call.caller.tenant, call.key)
    if earlier is None:
        raise refusal
    return repeated_answer(earlier, call.key)


def _answer(call: StartCall, draft: Draft, plan: RebuildPlan, shown: RebuildPlan | None = None) -> TriggerAnswer:
    return TriggerAnswer(
        run_id=draft.run_id,
        status=RunStatus.QUEUED if plan.to_execute_count else RunStatus.COMPLETED,
        message=call.message(plan),
        plan=shown,
    )


async def _plan(start: StartRuns, draft: Draft, cache: OutputCache) -> RebuildPlan:
    return await make_plan(
        PlanRequest(
            compiled=draft.compiled,
            tenant=draft.caller.tenant,
            run_id=draft.run_id,
            payload=draft.payload,
            mode=draft.mode,
            cache_version=remembered(lambda skill_id: start.skills.availability(skill_id).cache_version),
            change=draft.change,
            base=draft.base,
            base_compiled=draft.base_compiled,
            seeds=draft.seeds,
            forced=draft.forced,
            is_retry=draft.trigger_type is TriggerType.RETRY,
        ),
        start.store,
        cache,
    )


async def _check_inputs(start: StartRuns, draft: Draft, plan: RebuildPlan) -> None:
    """A retry is let through: it repeats what was accepted, and may meet a skill that accepts more by now."""
    if draft.trigger_type is not TriggerType.RETRY:
        run = PlannedRun(
            compiled=draft.compiled, plan=plan, run_id=draft.run_id, payload=draft.payload, change=draft.change
        )
        await check_inputs(run, start.skills, start.schemas, start.store)


def _check_plan(call: StartCall, draft: Draft, plan: RebuildPlan) -> None:
    if call.is_strict:
        _check_impact(draft, plan)
    if call.expected_plan_digest not in ("", plan.digest):
        raise ChangedError(
            "PLAN_CHANGED",
            f"the plan is not the one expected any more: its digest is {plan.digest} now; "
            "look at the plan again and send its digest",
            metadata={"expectedPlanDigest": call.expected_plan_digest, "planDigest": plan.digest},
        )


def _check_impact(draft: Draft, plan: RebuildPlan) -> None:
    widened = [step for step in plan.steps if step.reason is PlanReason.WIDENED]
    if not widened:
        return
    named = "; ".join(
        f"{step.step_id} at {_listed([pointer or 'the whole input' for pointer in step.changed_pointers])}"
        for step in widened[:_WIDENED_SHOWN_MAX]
    )
    more = f" and {len(widened) - _WIDENED_SHOWN_MAX} more" if len(widened) > _WIDENED_SHOWN_MAX else ""
    assert draft.base is not None and draft.change is not None, "only an update widens"
    raise PreconditionError(
        "IMPACT_WIDENED",
        f"{draft.change.type} would change the input of steps beyond its declared impact: {named}{more}; "
        "add them to the change type's seeds, or send the request without strictImpact",
        metadata={"runId": draft.base.run_id, "stepIds": ", ".join(step.step_id for step in widened)},
    )


def _listed(pointers: Sequence[str]) -> str:
    more = ", …" if len(pointers) > _POINTERS_SHOWN_MAX else ""
    return ", ".join(pointers[:_POINTERS_SHOWN_MAX]) + more


async def _store(
    start: StartRuns,
    call: StartCall,
    draft: Draft,
    plan: RebuildPlan,
    answer: TriggerAnswer,
    assumes: Assumptions | None = None,
) -> TriggerAnswer | None:
    """The answer, or an earlier one; None where an assumption does not hold."""
    if len(plan.steps) > PLANNED_INLINE_STEPS_MAX:
        new = await anyio.to_thread.run_sync(_new_run, start, call, draft, plan, answer, assumes)
    else:
        new = _new_run(start, call, draft, plan, answer, assumes)
    facts = _facts(draft, plan, new.trace)
    with await start.signal.intake(facts, plan, [step for step, _ in new.ready]) as intake:
        created = await start.store.create(new, intake)
    match created:
        case EarlierAnswer():
            return repeated_answer(created, call.key)
        case Outdated():
            return None
        case _:
            return answer


def _new_run(
    start: StartRuns,
    call: StartCall,
    draft: Draft,
    plan: RebuildPlan,
    answer: TriggerAnswer,
    assumes: Assumptions | None,
) -> NewRun:
    workflow = draft.compiled.workflow
    layout = lay_out(draft.compiled, plan, lambda step: _timeout_ms(start.skills, step))
    return NewRun(
        id=draft.run_id,
        tenant=draft.caller.tenant,
        principal=draft.caller.principal,
        workflow_name=workflow.name,
        workflow_version=workflow.version,
        workflow_digest=workflow.digest,
        trigger_type=draft.trigger_type,
        cache_mode=draft.mode,
        priority=draft.priority,
        failure_policy=draft.failure_policy,
        payload=draft.payload_body,
        change=draft.change,
        base_run=draft.base.run if draft.base else None,
        root_run=draft.base.root_run if draft.base else None,
        plan=plan.steps,
        labels=draft.labels,
        deadline_s=draft.deadline_s,
        request=call.key,
        answer=encode_answer(answer),
        waiting_for=layout.waiting_for,
        ready=layout.ready,
        reused=[
            (number, step.binding)  # type: ignore[misc]
            for number, step in enumerate(plan.steps)
            if step.action is PlanAction.REUSE and step.binding is not None
        ],
        is_base_version=draft.base is not None and draft.base.workflow_digest == workflow.digest,
        trace=start.tracer.current(),
        cache_after=plan.cache_after,
        assumes=assumes,
    )


def _timeout_ms(skills: SkillRunner, step: StepDefinition) -> int:
    known = skills.availability(step.skill_id)
    return step.lease_timeout_ms(known.default_timeout_s, is_skill_known=known.info is not None)


def _facts(draft: Draft, plan: RebuildPlan, trace: TraceContext | None) -> RunFacts:
    """What the scheduler needs, but for the run's key."""
    base = draft.base
    return RunFacts(
        run=RunKey(0),
        run_id=draft.run_id,
        tenant=draft.caller.tenant,
        workflow_name=draft.compiled.workflow.name,
        workflow_digest=draft.compiled.workflow.digest,
        cache_mode=draft.mode,
        payload=draft.payload,
        change=draft.change,
        base_run=base.run if base else None,
        base_digest=base.workflow_digest if base else None,
        plan=[(step.action, step.reason) for step in plan.steps],
        deadline_in_s=draft.deadline_s,
        base_results=base.results if base else None,
        trace=trace,
        base_span=run_span(base.trace, base.run_id) if base is not None and base.trace is not None else None,
        cache_after=plan.cache_after,
    )
