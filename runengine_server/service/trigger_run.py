"""Start an initial run: plan it, then store run, plan, reuse and ready steps in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn
from uuid import uuid4

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import RunEngineError
from runengine_server.domain.ids import RunId, RunKey
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, FailurePolicy, PlanAction, RunStatus, TriggerType
from runengine_server.domain.workflow import StepDefinition
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.planning import PlanRequest
from runengine_server.ports.clock import Clock
from runengine_server.ports.output_cache import OutputCache
from runengine_server.ports.run_store import CreatedRun, NewRun, RequestKey, RunFacts, RunStore
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.ports.work_signal import WorkSignal
from runengine_server.ports.workflow_store import WorkflowStore
from runengine_server.service.authorization import require
from runengine_server.service.get_workflow import workflow_not_found
from runengine_server.service.messages import TriggerAnswer, TriggerRequest, TriggerUpdateRequest
from runengine_server.service.new_run import (
    encode_answer,
    lay_out,
    repeated_answer,
    request_key,
)
from runengine_server.service.planning import make_plan
from runengine_server.service.request_checks import canonical_payload, check_options, check_schema, check_skills_offered
from runengine_server.service.workflow_catalogue import WorkflowCatalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRuns:
    """What it takes to start a run of any kind."""

    catalogue: WorkflowCatalogue
    workflows: WorkflowStore
    store: RunStore
    cache: OutputCache
    skills: SkillRunner
    signal: WorkSignal
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A run that is checked and ready to be planned and stored."""

    caller: Caller
    run_id: RunId
    compiled: CompiledWorkflow
    trigger_type: TriggerType
    payload: JsonObject
    payload_body: bytes
    mode: CacheMode
    failure_policy: FailurePolicy
    request: RequestKey
    options: TriggerRequest | TriggerUpdateRequest
    change: ChangeRequest | None = None
    base: BaseRun | None = None
    seeds: Sequence[int] = ()


async def trigger_run(start: StartRuns, caller: Caller, request: TriggerRequest) -> TriggerAnswer:
    """Plan and start an initial run; with `validate_only` only plan it.

    Idempotent by: the request id.

    Raises:
        NotFoundError: WORKFLOW_NOT_FOUND.
        InvalidError: VALIDATION_FAILED, PAYLOAD_SCHEMA_MISMATCH.
        PreconditionError: SKILL_UNREGISTERED.
        ConflictError: REQUEST_ID_REUSED.
        ExhaustedError: PAYLOAD_TOO_LARGE, QUEUE_FULL.
    """
    require(caller, Scope.RUN_WRITE)
    check_options(
        request_id=request.request_id,
        labels=request.labels,
        priority=request.priority,
        deadline_s=request.deadline_s,
    )
    payload_body = canonical_payload("triggerPayload", request.trigger_payload)
    key = _request_key(request)
    try:
        draft = await _draft(start, caller, request, payload_body, key)
    except RunEngineError as refusal:
        return await earlier_answer_or(start, caller, key, refusal, validate_only=request.validate_only)
    plan = await plan_draft(start, draft)
    if request.validate_only:
        return TriggerAnswer(run_id=None, status=None, message=initial_message(plan), plan=plan)
    return await store_run(start, draft, plan, initial_message(plan), keeps_plan=False)


def initial_message(plan: RebuildPlan) -> str:
    """What Trigger says."""
    return "Run queued for execution" if plan.to_execute_count else "Run completed - 0 steps will be executed"


async def earlier_answer_or(
    start: StartRuns, caller: Caller, key: RequestKey, refusal: RunEngineError, *, validate_only: bool
) -> TriggerAnswer:
    """A repetition gets its first answer, even where the request could not be accepted any more.

    Raises:
        RunEngineError: the refusal, when this is no repetition.
    """
    earlier = None if validate_only else await start.store.earlier_answer(caller.tenant, key)
    if earlier is None:
        _raise(refusal)
    return repeated_answer(earlier, key)


async def plan_draft(start: StartRuns, draft: Draft) -> RebuildPlan:
    """The plan of a draft."""
    return await make_plan(
        PlanRequest(
            compiled=draft.compiled,
            tenant=draft.caller.tenant,
            run_id=draft.run_id,
            payload=draft.payload,
            mode=draft.mode,
            cache_version=lambda skill_id: start.skills.availability(skill_id).cache_version,
            change=draft.change,
            base=draft.base,
            seeds=tuple(draft.seeds),  # type: ignore[arg-type]
        ),
        start.store,
        start.cache,
    )


async def store_run(
    start: StartRuns, draft: Draft, plan: RebuildPlan, message: str, *, keeps_plan: bool
) -> TriggerAnswer:
    """Store the run its plan describes, and wake the scheduler."""
    answer = TriggerAnswer(
        run_id=draft.run_id,
        status=RunStatus.QUEUED if plan.to_execute_count else RunStatus.COMPLETED,
        message=message,
        plan=plan if keeps_plan else None,
    )
    new = _new_run(start, draft, plan, answer)
    created = await start.store.create(new)
    if not isinstance(created, CreatedRun):
        return repeated_answer(created, draft.request)
    start.signal.run_created(_facts(start, draft, created.run, plan), plan, has_ready_steps=bool(new.ready))
    return answer


async def _draft(
    start: StartRuns, caller: Caller, request: TriggerRequest, payload_body: bytes, key: RequestKey
) -> Draft:
    compiled = await start.catalogue.find(caller.tenant, request.workflow_name, request.workflow_version)
    if compiled is None:
        raise await workflow_not_found(start.workflows, caller.tenant, request.workflow_name, request.workflow_version)
    workflow = compiled.workflow
    await check_schema(workflow, request.trigger_payload, len(payload_body))
    check_skills_offered(workflow, start.skills)
    return Draft(
        caller=caller,
        run_id=RunId(str(uuid4())),
        compiled=compiled,
        trigger_type=TriggerType.INITIAL,
        payload=request.trigger_payload,
        payload_body=payload_body,
        mode=request.cache_mode or CacheMode.DEFAULT,
        failure_policy=request.failure_policy or workflow.failure_policy,
        request=key,
        options=request,
    )


def _request_key(request: TriggerRequest) -> RequestKey:
    return request_key(
        "Trigger",
        request.request_id,
        {
            "workflowName": request.workflow_name,
            "triggerPayload": request.trigger_payload,
            "labels": dict(request.labels),
            "workflowVersion": request.workflow_version,
            "deadlineS": request.deadline_s,
            "priority": request.priority,
            "cacheMode": request.cache_mode,
            "failurePolicy": request.failure_policy,
        },
    )


def _new_run(start: StartRuns, draft: Draft, plan: RebuildPlan, answer: TriggerAnswer) -> NewRun:
    workflow, options = draft.compiled.workflow, draft.options
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
        priority=options.priority,
        failure_policy=draft.failure_policy,
        payload=draft.payload_body,
        change=draft.change,
        base_run=draft.base.run if draft.base else None,
        root_run=draft.base.root_run if draft.base else None,
        plan=plan.steps,
        labels=options.labels,
        deadline_s=options.deadline_s,
        request=draft.request,
        answer=encode_answer(answer),
        waiting_for=layout.waiting_for,
        ready=layout.ready,
        reused=[
            (number, step.binding)  # type: ignore[misc]
            for number, step in enumerate(plan.steps)
            if step.action is PlanAction.REUSE and step.binding is not None
        ],
    )


def _timeout_ms(skills: SkillRunner, step: StepDefinition) -> int:
    known = skills.availability(step.skill_id)
    return step.lease_timeout_ms(known.default_timeout_s, is_skill_known=known.info is not None)


def _facts(start: StartRuns, draft: Draft, run: RunKey, plan: RebuildPlan) -> RunFacts:
    deadline_s = draft.options.deadline_s
    return RunFacts(
        run=run,
        run_id=draft.run_id,
        tenant=draft.caller.tenant,
        workflow_name=draft.compiled.workflow.name,
        workflow_digest=draft.compiled.workflow.digest,
        cache_mode=draft.mode,
        payload=draft.payload,
        change=draft.change,
        base_run=draft.base.run if draft.base else None,
        plan=[(step.action, step.reason) for step in plan.steps],
        deadline_at_s=None if deadline_s is None else start.clock.now().timestamp() + deadline_s,
    )


def _raise(error: RunEngineError) -> NoReturn:
    raise error
