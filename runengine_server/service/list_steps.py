"""List a run's steps, in definition order."""

from collections.abc import Sequence
from dataclasses import replace

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.ids import StepId, StepNo
from runengine_server.domain.json_value import JsonValue
from runengine_server.domain.run import Step
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.ports.run_reader import RunIdentity, StepFilter
from runengine_server.service.authorization import require
from runengine_server.service.message_size import MESSAGE_BYTES_MAX, step_bytes
from runengine_server.service.messages import ListStepsRequest, StepPage
from runengine_server.service.miss_details import MISSES_AT_ONCE_MAX, MissDetails, has_details
from runengine_server.service.page_tokens import decode_page_token, encode_page_token, page_size
from runengine_server.service.run_lookup import ReadRuns, find_run, placed_steps, run_not_found, step_not_found
from runengine_server.service.step_inputs import StepInputs


async def list_steps(read: ReadRuns, caller: Caller, request: ListStepsRequest) -> StepPage:
    """List a run's steps as of one event sequence, only one when it is named; `is_full` adds inputs, outputs, attempts.

    Raises:
        NotFoundError: RUN_NOT_FOUND, STEP_NOT_FOUND.
        InvalidError: VALIDATION_FAILED, PAGE_TOKEN_INVALID.
    """
    require(caller, Scope.RUN_READ, run_id=request.run_id)
    limit = page_size(request.page_size)
    run = await find_run(read, caller, request.run_id)
    bound_to: dict[str, JsonValue] = {
        "list": "steps",
        "run": run.run_id,
        "statuses": [*sorted({int(status) for status in request.statuses})],
        "full": request.is_full,
    }
    if request.step_id:
        bound_to["stepId"] = request.step_id
    position = decode_page_token(request.page_token, bound_to, 1)
    compiled = await read.workflows.compiled(run.workflow_digest)
    only = _step_named(request.step_id, compiled)
    start = 0 if position is None else min(max(0, position[0]), len(compiled.workflow.steps))
    where = StepFilter(
        from_step=StepNo(start) if only is None else only,
        limit=limit if only is None else 1,
        statuses=request.statuses,
        is_full=request.is_full,
    )
    found = await read.reader.steps(run, compiled.workflow, where)
    if found is None:
        raise run_not_found(request.run_id)
    wanted = [placed for placed in found.steps if only in (None, placed[0])]
    placed = placed_steps(read, run, compiled, wanted)
    details = _FullView(read, run, compiled) if request.is_full else None
    steps = await _fitting(placed, details)
    token = ""
    if len(steps) < len(placed):
        token = encode_page_token([placed[len(steps)][0]], bound_to)
    elif found.has_more and placed and only is None:
        token = encode_page_token([placed[-1][0] + 1], bound_to)
    return StepPage(steps=tuple(steps), next_page_token=token, as_of_sequence=found.row.run.last_sequence)


def _step_named(step_id: str, compiled: CompiledWorkflow) -> StepNo | None:
    if not step_id:
        return None
    number = compiled.step_no.get(StepId(step_id))
    if number is None:
        raise step_not_found(step_id, compiled)
    return number


class _FullView:
    """Adds to the steps of one page what is derived: inputs, and what the input of a cache miss changed from."""

    def __init__(self, read: ReadRuns, run: RunIdentity, compiled: CompiledWorkflow) -> None:
        self._inputs = StepInputs(read, run, compiled)
        self._misses = MissDetails(read, run, compiled)

    async def prepare(self, steps: Sequence[Step]) -> None:
        """What all of these steps need is looked up."""
        await self._misses.find(steps)

    async def of(self, number: StepNo, step: Step) -> Step:
        """The step with its derived fields."""
        traced = await self._inputs.traced(number, step) if step.input_hash else None
        detail = await self._misses.complete(step, traced)
        return replace(detail.step, input=None if traced is None else traced.value)


async def _fitting(placed: Sequence[tuple[StepNo, Step]], view: _FullView | None) -> list[Step]:
    """As many of the first steps as fit into a message and are cheap enough to complete, at least one."""
    if view is not None:
        placed = _completable(placed)
        await view.prepare([step for _, step in placed])
    steps: list[Step] = []
    spent = 0
    for number, step in placed:
        if view is not None:
            step = await view.of(number, step)
        spent += step_bytes(step)
        if steps and spent > MESSAGE_BYTES_MAX:
            break
        steps.append(step)
    return steps


def _completable(placed: Sequence[tuple[StepNo, Step]]) -> Sequence[tuple[StepNo, Step]]:
    """The steps up to the last miss whose details may be derived at once."""
    misses = [place for place, (_, step) in enumerate(placed) if has_details(step)]
    return placed if len(misses) <= MISSES_AT_ONCE_MAX else placed[: misses[MISSES_AT_ONCE_MAX]]
