"""Finds a caller's run and puts names to what storage knows by number: what every use case that reads a run shares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runengine_server.domain.caller import Caller
from runengine_server.domain.errors import NotFoundError
from runengine_server.domain.ids import StepId, StepNo, parse_run_id
from runengine_server.domain.run import Run, Step
from runengine_server.domain.states import StepStatus
from runengine_server.planner.compiled import CompiledWorkflow, CompiledWorkflows
from runengine_server.ports.lineage_reader import LineageReader
from runengine_server.ports.progress import ProgressBoard
from runengine_server.ports.run_reader import RunIdentity, RunReader, RunRow
from runengine_server.ports.run_store import RunStore
from runengine_server.ports.step_history import StepHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRuns:
    """What it takes to read runs; `store` serves the inputs of steps, which are derived, `history` explanations."""

    reader: RunReader
    workflows: CompiledWorkflows
    store: RunStore
    progress: ProgressBoard
    history: StepHistory
    lineage: LineageReader


def run_not_found(run_id: str) -> NotFoundError:
    """RUN_NOT_FOUND, the same whether the run never was, is gone or belongs to another tenant."""
    return NotFoundError(
        "RUN_NOT_FOUND",
        f"there is no run {run_id[:64]!r}; a run id is the UUID that Trigger answered, ListRuns shows those that exist",
        metadata={"runId": run_id[:64]},
    )


def step_not_found(step_id: str, compiled: CompiledWorkflow) -> NotFoundError:
    """STEP_NOT_FOUND, naming the workflow."""
    workflow = compiled.workflow
    return NotFoundError(
        "STEP_NOT_FOUND",
        f"{workflow.name} {workflow.version} has no step {step_id[:64]!r}",
        metadata={"stepId": step_id[:64], "workflowName": workflow.name, "workflowVersion": workflow.version},
    )


async def find_run(read: ReadRuns, caller: Caller, run_id: str) -> RunIdentity:
    """The caller's run of that id.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
    """
    parsed = parse_run_id(run_id)
    run = None if parsed is None else await read.reader.find(caller.tenant, parsed)
    if run is None:
        raise run_not_found(run_id)
    return run


async def read_run(read: ReadRuns, run: RunIdentity, *, is_full: bool) -> Run:
    """A run that was found, as callers see it.

    Raises:
        NotFoundError: RUN_NOT_FOUND, when retention has removed it meanwhile.
    """
    row = await read.reader.run(run, is_full=is_full)
    if row is None:
        raise run_not_found(run.run_id)
    return await named_run(read, row)


async def named_run(read: ReadRuns, row: RunRow) -> Run:
    """The run with its failed step by name."""
    if row.failed_step is None:
        return row.run
    compiled = await read.workflows.compiled(row.run.workflow_digest)
    return with_failed_step(row, compiled)


def with_failed_step(row: RunRow, compiled: CompiledWorkflow) -> Run:
    """The run with its failed step by name."""
    if row.failed_step is None:
        return row.run
    return replace(row.run, failed_step=StepId(compiled.workflow.steps[row.failed_step].step_id))


def placed_steps(
    read: ReadRuns, run: RunIdentity, compiled: CompiledWorkflow, steps: Sequence[tuple[StepNo, Step]]
) -> list[tuple[StepNo, Step]]:
    """The steps with their levels and, while they run, their latest progress."""
    progress = read.progress.latest(run.key)
    return [
        (
            number,
            replace(
                step,
                level=compiled.levels[number],
                progress=progress.get(step.step_id) if step.status is StepStatus.RUNNING else None,
            ),
        )
        for number, step in steps
    ]
