"""List runs, newest first."""

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.ids import RunId, RunKey, parse_run_id
from runengine_server.domain.json_value import JsonValue
from runengine_server.ports.run_reader import RunFilter
from runengine_server.service.authorization import require
from runengine_server.service.message_size import fitting, run_bytes
from runengine_server.service.messages import ListRunsRequest, RunPage
from runengine_server.service.page_tokens import decode_page_token, encode_page_token, page_size
from runengine_server.service.run_lookup import ReadRuns, named_run


async def list_runs(read: ReadRuns, caller: Caller, request: ListRunsRequest) -> RunPage:
    """List the runs of the caller's tenant that match every field that is set.

    Raises:
        InvalidError: VALIDATION_FAILED, PAGE_TOKEN_INVALID.
    """
    require(caller, Scope.RUN_READ)
    limit = page_size(request.page_size)
    base_run_id = _base_run_id(request.base_run_id)
    bound_to = _bound_to(caller, request)
    position = decode_page_token(request.page_token, bound_to, 1)
    where = RunFilter(
        workflow_name=request.workflow_name,
        statuses=request.statuses,
        labels=request.labels,
        base_run_id=base_run_id,
        created_after=request.created_after,
        created_before=request.created_before,
        trigger_type=request.trigger_type,
    )
    before = None if position is None else RunKey(position[0])
    rows = await read.reader.runs(caller.tenant, where, before=before, limit=limit + 1)
    page = fitting(rows[:limit], lambda row: run_bytes(row.run))
    token = encode_page_token([page[-1].key], bound_to) if len(page) < len(rows) else ""
    return RunPage(runs=tuple([await named_run(read, row) for row in page]), next_page_token=token)


def _base_run_id(text: str) -> RunId | None:
    if not text:
        return None
    parsed = parse_run_id(text)
    if parsed is None:
        raise InvalidError(
            "VALIDATION_FAILED",
            f"baseRunId {text[:64]!r} is no run id; a run id is a UUID",
            violations=[FieldViolation(field="baseRunId", description="must be a UUID")],
        )
    return parsed


def _bound_to(caller: Caller, request: ListRunsRequest) -> dict[str, JsonValue]:
    after, before = request.created_after, request.created_before
    return {
        "list": "runs",
        "tenant": caller.tenant,
        "workflowName": request.workflow_name,
        "statuses": [*sorted({int(status) for status in request.statuses})],
        "labels": dict(request.labels),
        "baseRunId": request.base_run_id,
        "createdAfter": None if after is None else after.timestamp(),
        "createdBefore": None if before is None else before.timestamp(),
        "triggerType": request.trigger_type,
    }
