"""Partially rebuild a completed run: what a change request affects is executed, the rest reused."""

from uuid import uuid4

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import InvalidError, PreconditionError, RunEngineError
from runengine_server.domain.ids import RunId
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.merge_patch import merge_patch
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, RunStatus, TriggerType
from runengine_server.domain.workflow import ChangeRule, Workflow
from runengine_server.ports.run_store import RequestKey
from runengine_server.service.authorization import require
from runengine_server.service.messages import TriggerAnswer, TriggerUpdateRequest
from runengine_server.service.new_run import request_key
from runengine_server.service.request_checks import canonical_payload, check_options, check_schema, check_skills_offered
from runengine_server.service.run_lookup import parse_run_id, run_not_found
from runengine_server.service.trigger_run import Draft, StartRuns, earlier_answer_or, plan_draft, store_run


async def trigger_update(start: StartRuns, caller: Caller, request: TriggerUpdateRequest) -> TriggerAnswer:
    """Plan and start a partial rebuild; with `validate_only` only plan it. The base run never changes.

    Idempotent by: the request id.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
        PreconditionError: BASE_RUN_NOT_COMPLETED, SKILL_UNREGISTERED.
        InvalidError: UNKNOWN_CHANGE_TYPE, VALIDATION_FAILED, PAYLOAD_SCHEMA_MISMATCH.
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
    canonical_payload("changeRequest.payload", request.change_payload)
    key = _request_key(request)
    try:
        draft = await _draft(start, caller, request, key)
    except RunEngineError as refusal:
        return await earlier_answer_or(start, caller, key, refusal, validate_only=request.validate_only)
    plan = await plan_draft(start, draft)
    if request.validate_only:
        return TriggerAnswer(run_id=None, status=None, message=update_message(plan), plan=plan)
    return await store_run(start, draft, plan, update_message(plan), keeps_plan=True)


def update_message(plan: RebuildPlan) -> str:
    """What TriggerUpdate says: the count is EXECUTE + UNKNOWN."""
    count = plan.to_execute_count
    return f"Update run {'queued' if count else 'completed'} - {count} steps will be re-executed"


async def find_base(start: StartRuns, caller: Caller, base_run_id: str) -> BaseRun:
    """The tenant's run to build on.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
        PreconditionError: BASE_RUN_NOT_COMPLETED.
    """
    run_id = parse_run_id(base_run_id)
    base = await start.store.base(caller.tenant, run_id) if run_id else None
    if base is None:
        raise run_not_found(base_run_id)
    if base.status is not RunStatus.COMPLETED:
        raise PreconditionError(
            "BASE_RUN_NOT_COMPLETED",
            f"run {base.run_id} is {base.status.name.lower()}; only a completed run can be updated: "
            + ("wait until it is" if not base.status.is_terminal else "trigger a new run"),
            metadata={"runId": base.run_id, "status": base.status.name},
        )
    return base


async def _draft(start: StartRuns, caller: Caller, request: TriggerUpdateRequest, key: RequestKey) -> Draft:
    base = await find_base(start, caller, request.base_run_id)
    compiled = await start.catalogue.compiled(base.workflow_digest)
    workflow = compiled.workflow
    rule = _change_rule(workflow, request.change_type)
    payload = _effective_payload(base.payload, request.change_payload)
    payload_body = canonical_payload("effective payload", payload)
    await check_schema(workflow, payload, len(payload_body))
    check_skills_offered(workflow, start.skills)
    return Draft(
        caller=caller,
        run_id=RunId(str(uuid4())),
        compiled=compiled,
        trigger_type=TriggerType.UPDATE,
        payload=payload,
        payload_body=payload_body,
        mode=request.cache_mode or rule.cache_mode or CacheMode.DEFAULT,
        failure_policy=workflow.failure_policy,
        request=key,
        options=request,
        change=ChangeRequest(type=request.change_type, payload=request.change_payload),
        base=base,
        seeds=compiled.seeds_of(rule),
    )


def _effective_payload(base: JsonObject, change: JsonObject) -> JsonObject:
    payload = merge_patch(base, change)
    assert isinstance(payload, dict), "a patch that is an object makes an object"
    return payload


def _change_rule(workflow: Workflow, change_type: str) -> ChangeRule:
    rule = workflow.change_rule(change_type)
    if rule is None:
        known = ", ".join(rule.type for rule in workflow.change_rules) or "none"
        raise InvalidError(
            "UNKNOWN_CHANGE_TYPE",
            f"{workflow.name} {workflow.version} has no change type {change_type!r}; known: {known}",
            metadata={"changeType": change_type[:128], "known": known},
        )
    return rule


def _request_key(request: TriggerUpdateRequest) -> RequestKey:
    return request_key(
        "TriggerUpdate",
        request.request_id,
        {
            "baseRunId": parse_run_id(request.base_run_id) or request.base_run_id,
            "changeType": request.change_type,
            "changePayload": request.change_payload,
            "labels": dict(request.labels),
            "deadlineS": request.deadline_s,
            "priority": request.priority,
            "cacheMode": request.cache_mode,
        },
    )
