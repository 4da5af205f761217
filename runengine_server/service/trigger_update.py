"""Partially rebuild a completed run: what a change request affects is executed, the rest reused."""

from uuid import uuid4

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import InvalidError, PreconditionError
from runengine_server.domain.ids import RunId, parse_run_id
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.merge_patch import merge_patch
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, RunStatus, TriggerType
from runengine_server.domain.workflow import ChangeRule, Workflow
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.ports.run_store import RequestKey
from runengine_server.service.authorization import require
from runengine_server.service.get_workflow import workflow_not_found
from runengine_server.service.messages import TriggerAnswer, TriggerUpdateRequest
from runengine_server.service.new_run import request_key
from runengine_server.service.request_checks import (
    canonical_payload,
    check_options,
    check_plan_digest,
    check_schema,
    check_skills_offered,
    find_run_to_build_on,
    find_steps,
)
from runengine_server.service.start_run import Draft, StartCall, StartRuns, start_run


async def trigger_update(start: StartRuns, caller: Caller, request: TriggerUpdateRequest) -> TriggerAnswer:
    """Plan and start a partial rebuild; with `validate_only` only plan it. The base run never changes.

    Idempotent by: the request id.

    Raises:
        NotFoundError: RUN_NOT_FOUND, WORKFLOW_NOT_FOUND.
        PreconditionError: BASE_RUN_NOT_COMPLETED, IMPACT_WIDENED, SKILL_UNREGISTERED.
        ChangedError: PLAN_CHANGED.
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
    check_plan_digest(request.expected_plan_digest)
    canonical_payload("changeRequest.payload", request.change_payload)
    call = StartCall(
        caller=caller,
        key=_request_key(request),
        message=update_message,
        validate_only=request.validate_only,
        expected_plan_digest=request.expected_plan_digest,
        is_strict=request.strict_impact,
    )
    return await start_run(start, call, _draft(start, caller, request))


def update_message(plan: RebuildPlan) -> str:
    """What TriggerUpdate says: the count is EXECUTE + UNKNOWN."""
    count = plan.to_execute_count
    return f"Update run {'queued' if count else 'completed'} - {count} steps will be re-executed"


async def _draft(start: StartRuns, caller: Caller, request: TriggerUpdateRequest) -> Draft:
    base = await find_run_to_build_on(start.store, caller, request.base_run_id)
    _check_completed(base)
    base_compiled = await start.catalogue.compiled(base.workflow_digest)
    compiled = await _version(start, caller, base_compiled, request.workflow_version)
    workflow = compiled.workflow
    rule = _change_rule(workflow, request.change_type)
    forced = find_steps("forceStepIds", request.force_step_ids, compiled)
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
        labels=request.labels,
        priority=request.priority,
        deadline_s=request.deadline_s,
        change=ChangeRequest(type=request.change_type, payload=request.change_payload),
        base=base,
        base_compiled=base_compiled,
        seeds=compiled.seeds_of(rule),
        forced=forced,
    )


def _check_completed(base: BaseRun) -> None:
    if base.status is not RunStatus.COMPLETED:
        raise PreconditionError(
            "BASE_RUN_NOT_COMPLETED",
            f"run {base.run_id} is {base.status.name.lower()}; only a completed run can be updated: "
            + ("wait until it is" if not base.status.is_terminal else "retry it, or trigger a new run"),
            metadata={"runId": base.run_id, "status": base.status.name},
        )


async def _version(start: StartRuns, caller: Caller, base: CompiledWorkflow, version: str) -> CompiledWorkflow:
    """The version to build with: the named one as the tenant has it now, else exactly the base's."""
    if not version:
        return base
    name = base.workflow.name
    compiled = await start.catalogue.find(caller.tenant, name, version)
    if compiled is None:
        raise await workflow_not_found(start.workflows, caller.tenant, name, version)
    return compiled


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
            "forceStepIds": sorted(request.force_step_ids) or None,
            "expectedPlanDigest": request.expected_plan_digest or None,
            "strictImpact": request.strict_impact or None,
            "workflowVersion": request.workflow_version or None,
        },
    )
