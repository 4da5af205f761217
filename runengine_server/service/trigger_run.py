"""Start an initial run of a workflow, or only plan it."""

from uuid import uuid4

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.ids import RunId
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.states import CacheMode, TriggerType
from runengine_server.ports.run_store import RequestKey
from runengine_server.service.authorization import require
from runengine_server.service.get_workflow import workflow_not_found
from runengine_server.service.messages import TriggerAnswer, TriggerRequest
from runengine_server.service.new_run import request_key
from runengine_server.service.request_checks import (
    canonical_payload,
    check_options,
    check_plan_digest,
    check_schema,
    check_skills_offered,
    find_steps,
)
from runengine_server.service.start_run import Draft, StartCall, StartRuns, start_assuming, start_run


async def trigger_run(start: StartRuns, caller: Caller, request: TriggerRequest) -> TriggerAnswer:
    """Plan and start an initial run; with `validate_only` only plan it.

    Idempotent by: the request id.

    Raises:
        NotFoundError: WORKFLOW_NOT_FOUND.
        InvalidError: VALIDATION_FAILED, PAYLOAD_SCHEMA_MISMATCH.
        PreconditionError: SKILL_UNREGISTERED.
        ChangedError: PLAN_CHANGED.
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
    check_plan_digest(request.expected_plan_digest)
    payload_body = canonical_payload("triggerPayload", request.trigger_payload)
    call = StartCall(
        caller=caller,
        key=_request_key(request),
        message=initial_message,
        validate_only=request.validate_only,
        expected_plan_digest=request.expected_plan_digest,
        shows_plan=False,
    )
    if not (call.validate_only or call.expected_plan_digest):
        answer = await start_assuming(start, call, _draft(start, caller, request, payload_body, may_assume=True))
        if answer is not None:
            return answer
    return await start_run(start, call, _draft(start, caller, request, payload_body))


def initial_message(plan: RebuildPlan) -> str:
    """What Trigger says."""
    return "Run queued for execution" if plan.to_execute_count else "Run completed - 0 steps will be executed"


async def _draft(
    start: StartRuns, caller: Caller, request: TriggerRequest, payload_body: bytes, *, may_assume: bool = False
) -> Draft:
    wanted = caller.tenant, request.workflow_name, request.workflow_version
    assumed = start.catalogue.assumed(*wanted) if may_assume else None
    compiled = assumed or await start.catalogue.find(*wanted)
    if compiled is None:
        raise await workflow_not_found(start.workflows, *wanted)
    workflow = compiled.workflow
    forced = find_steps("forceStepIds", request.force_step_ids, compiled)
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
        labels=request.labels,
        priority=request.priority,
        deadline_s=request.deadline_s,
        forced=forced,
        assumed_version=None if assumed is None else request.workflow_version,
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
            "forceStepIds": sorted(request.force_step_ids) or None,
            "expectedPlanDigest": request.expected_plan_digest or None,
        },
    )
