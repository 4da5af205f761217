"""List a run's steps, in definition order."""

from collections.abc import Sequence
from dataclasses import replace

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.ids import StepNo
from runengine_server.domain.json_value import JsonValue
from runengine_server.domain.run import Step
from runengine_server.ports.run_reader import StepFilter
from runengine_server.service.authorization import require
from runengine_server.service.message_size import MESSAGE_BYTES_MAX, step_bytes
from runengine_server.service.messages import ListStepsRequest, StepPage
from runengine_server.service.page_tokens import decode_page_token, encode_page_token, page_size
from runengine_server.service.run_lookup import ReadRuns, find_run, placed_steps, run_not_found
from runengine_server.service.step_inputs import StepInputs


async def list_steps(read: ReadRuns, caller: Caller, request: ListStepsRequest) -> StepPage:
    """List a run's steps as of one event sequence; `is_full` adds inputs, outputs and attempts.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
        InvalidError: VALIDATION_FAILED, PAGE_TOKEN_INVALID.
    """
    require(caller, Scope.RUN_READ)
    limit = page_size(request.page_size)
    run = await find_run(read, caller, request.run_id)
    bound_to: dict[str, JsonValue] = {
        "list": "steps",
        "run": run.run_id,
        "statuses": [*sorted({int(status) for status in request.statuses})],
        "full": request.is_full,
    }
    position = decode_page_token(request.page_token, bound_to, 1)
    compiled = await read.workflows.compiled(run.workflow_digest)
    where = StepFilter(
        from_step=StepNo(0 if position is None else min(max(0, position[0]), len(compiled.workflow.steps))),
        limit=limit,
        statuses=request.statuses,
        is_full=request.is_full,
    )
    found = await read.reader.steps(run, compiled.workflow, where)
    if found is None:
        raise run_not_found(request.run_id)
    placed = placed_steps(read, run, compiled, found.steps)
    steps = await _fitting(placed, StepInputs(read, run, compiled) if request.is_full else None)
    token = ""
    if len(steps) < len(placed):
        token = encode_page_token([placed[len(steps)][0]], bound_to)
    elif found.has_more and placed:
        token = encode_page_token([placed[-1][0] + 1], bound_to)
    return StepPage(steps=tuple(steps), next_page_token=token, as_of_sequence=found.row.run.last_sequence)


async def _fitting(placed: Sequence[tuple[StepNo, Step]], inputs: StepInputs | None) -> list[Step]:
    """As many of the first steps as fit into a message, at least one; inputs are derived one by one until then."""
    steps: list[Step] = []
    spent = 0
    for number, step in placed:
        if inputs is not None:
            step = replace(step, input=await inputs.of(number, step))
        spent += step_bytes(step)
        if steps and spent > MESSAGE_BYTES_MAX:
            break
        steps.append(step)
    return steps
