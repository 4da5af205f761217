"""Finish what a failed or cancelled run has left: a new run that reuses everything the old one has finished."""

from uuid import uuid4

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.canonical_json import canonical_bytes
from runengine_server.domain.errors import PreconditionError
from runengine_server.domain.ids import RunId, parse_run_id
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.states import RunStatus, TriggerType
from runengine_server.ports.run_store import RequestKey
from runengine_server.service.authorization import require
from runengine_server.service.messages import RetryRunRequest, TriggerAnswer
from runengine_server.service.new_run import request_key
from runengine_server.service.request_checks import (
    check_plan_digest,
    check_request_id,
    check_skills_offered,
    find_run_to_build_on,
)
from runengine_server.service.start_run import Draft, StartCall, StartRuns, start_run


async def retry_run(start: StartRuns, caller: Caller, request: RetryRunRequest) -> TriggerAnswer:
    """Plan and start a retry; with `validate_only` only plan it. The retried run never changes.

    Idempotent by: the request id.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
        InvalidError: VALIDATION_FAILED.
        PreconditionError: RUN_NOT_RETRYABLE, SKILL_UNREGISTERED.
        ChangedError: PLAN_CHANGED.
        ConflictError: REQUEST_ID_REUSED.
        ExhaustedError: QUEUE_FULL.
    """
    require(caller, Scope.RUN_WRITE)
    check_request_id(request.request_id)
    check_plan_digest(request.expected_plan_digest)
    call = StartCall(
        caller=caller,
        key=_request_key(request),
        message=retry_message,
        validate_only=request.validate_only,
        expected_plan_digest=request.expected_plan_digest,
    )
    return await start_run(start, call, _draft(start, caller, request))


def retry_message(plan: RebuildPlan) -> str:
    """What RetryRun says: the count is EXECUTE + UNKNOWN."""
    count = plan.to_execute_count
    return f"Retry run {'queued' if count else 'completed'} - {count} steps will be executed"


async def _draft(start: StartRuns, caller: Caller, request: RetryRunRequest) -> Draft:
    retried = await find_run_to_build_on(start.store, caller, request.run_id)
    _check_retryable(retried)
    compiled = await start.catalogue.compiled(retried.workflow_digest)
    check_skills_offered(compiled.workflow, start.skills)
    return Draft(
        caller=caller,
        run_id=RunId(str(uuid4())),
        compiled=compiled,
        trigger_type=TriggerType.RETRY,
        payload=retried.payload,
        payload_body=canonical_bytes(retried.payload),
        mode=retried.cache_mode,
        failure_policy=retried.failure_policy,
        labels=retried.labels,
        priority=retried.priority,
        change=retried.change,
        base=retried,
        base_compiled=compiled,
    )


def _check_retryable(run: BaseRun) -> None:
    match run.status:
        case RunStatus.FAILED | RunStatus.CANCELLED:
            return
        case RunStatus.COMPLETED:
            advice = "nothing of it is left to do: update it, or trigger a new run"
        case _:
            advice = "wait until it has ended, or cancel it first"
    raise PreconditionError(
        "RUN_NOT_RETRYABLE",
        f"run {run.run_id} is {run.status.name.lower()}; only a failed or cancelled run can be retried: {advice}",
        metadata={"runId": run.run_id, "status": run.status.name},
    )


def _request_key(request: RetryRunRequest) -> RequestKey:
    return request_key(
        "RetryRun",
        request.request_id,
        {
            "runId": parse_run_id(request.run_id) or request.run_id,
            "expectedPlanDigest": request.expected_plan_digest or None,
        },
    )
