"""Compare two runs of a workflow, step by step, and find the steps where they first part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import anyio.to_thread

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.ids import StepId, StepNo
from runengine_server.domain.run import Step
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.input_changes import InputChanges, SourceKind, compare_inputs
from runengine_server.ports.run_reader import RunIdentity, StepFilter
from runengine_server.ports.step_history import StepOutcome
from runengine_server.service.authorization import require
from runengine_server.service.message_size import MESSAGE_BYTES_MAX, fitting, step_bytes
from runengine_server.service.messages import RunComparison, StepDiff
from runengine_server.service.run_lookup import ReadRuns, find_run, placed_steps, run_not_found
from runengine_server.service.step_inputs import StepInputs

INPUTS_MAX = 200
"""Steps whose inputs are derived on both sides and compared; those nearest to the start of the workflow come first."""

INPUTS_BYTES_MAX = 16 * 2**20
"""And no more once the inputs compared are this large together."""

ROOT_CAUSES_MAX = 1_000

STEPS_AT_ONCE = 1_000

_OWN = frozenset({SourceKind.TRIGGER, SourceKind.CHANGE, SourceKind.DEFINITION})
_INHERITED = frozenset({SourceKind.OUTPUT, SourceKind.ARTIFACTS})


async def compare_runs(read: ReadRuns, caller: Caller, left_run_id: str, right_run_id: str) -> RunComparison:
    """Compare two runs of the same workflow, of any versions and in any state.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
        InvalidError: VALIDATION_FAILED, the runs are of different workflows.
    """
    require(caller, Scope.RUN_READ)
    runs = [await find_run(read, caller, run_id) for run_id in (left_run_id, right_run_id)]
    workflows = [await read.workflows.compiled(run.workflow_digest) for run in runs]
    left, right = (compiled.workflow.name for compiled in workflows)
    if left != right:
        problem = f"is a run of {right}, leftRunId one of {left}; only runs of the same workflow compare"
        violation = FieldViolation(field="rightRunId", description=problem)
        raise InvalidError("VALIDATION_FAILED", f"rightRunId {problem}", violations=[violation])
    comparison = _Comparison(*[await _side(read, *side) for side in zip(runs, workflows, strict=True)])
    changes = await _input_changes(read, comparison)
    return await anyio.to_thread.run_sync(_compared, comparison, changes)  # up to a second for 10,000 steps


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    run: RunIdentity
    compiled: CompiledWorkflow
    steps: Mapping[StepId, Step]
    outcomes: Mapping[StepId, StepOutcome]


async def _side(read: ReadRuns, run: RunIdentity, compiled: CompiledWorkflow) -> _Side:
    steps: dict[StepId, Step] = {}
    outcomes: dict[StepId, StepOutcome] = {}
    for start in range(0, len(compiled.workflow.steps), STEPS_AT_ONCE):
        where = StepFilter(from_step=StepNo(start), limit=STEPS_AT_ONCE)
        found = await read.reader.steps(run, compiled.workflow, where)
        if found is None:
            raise run_not_found(run.run_id)
        settled = await read.history.outcomes(run.key, [number for number, _ in found.steps])
        for number, step in placed_steps(read, run, compiled, found.steps):
            steps[step.step_id] = step
            outcomes[step.step_id] = settled[number]
    return _Side(run=run, compiled=compiled, steps=steps, outcomes=outcomes)


def _compared(comparison: "_Comparison", changes: Mapping[StepId, InputChanges]) -> RunComparison:
    diffs = [
        StepDiff(
            step_id=step_id,
            left=comparison.left.steps.get(step_id),
            right=comparison.right.steps.get(step_id),
            input_pointers=changes[step_id].pointers if step_id in changes else (),
            output_changed=comparison.has_other_output(step_id),
        )
        for step_id in comparison.step_ids
    ]
    causes = [step_id for step_id in comparison.step_ids if comparison.is_root_cause(step_id, changes.get(step_id))]
    return RunComparison(
        steps=tuple(_bounded(diffs, comparison.differs)), root_cause_step_ids=tuple(causes[:ROOT_CAUSES_MAX])
    )


class _Comparison:
    """Which steps differ, by what is recorded of them."""

    def __init__(self, left: _Side, right: _Side) -> None:
        self.left = left
        self.right = right
        self.step_ids = [*right.steps, *(step_id for step_id in left.steps if step_id not in right.steps)]

    def has_other_input(self, step_id: StepId) -> bool:
        """True when both have an input and they are not the same."""
        left, right = self._outcomes(step_id)
        return bool(left and right and left.input_hash and right.input_hash and left.input_hash != right.input_hash)

    def has_other_output(self, step_id: StepId) -> bool:
        """True when the outputs are not the same, or only one run has one."""
        left, right = self._outcomes(step_id)
        return ("" if left is None else left.output_hash) != ("" if right is None else right.output_hash)

    def differs(self, step_id: StepId) -> bool:
        """True when input or output differ, or only one run has the step."""
        return None in self._outcomes(step_id) or self.has_other_input(step_id) or self.has_other_output(step_id)

    def is_root_cause(self, step_id: StepId, changes: InputChanges | None) -> bool:
        """True when it differs, and not only because of what the steps it depends on put out."""
        if not self.differs(step_id) or not self._is_settled(step_id):
            return False
        kinds = {source.kind for change in (changes or InputChanges()).changes for source in change.sources}
        if kinds & _OWN:
            return True
        return not kinds & _INHERITED and not any(self.has_other_output(need) for need in self._needs(step_id))

    def _outcomes(self, step_id: StepId) -> tuple[StepOutcome | None, StepOutcome | None]:
        return self.left.outcomes.get(step_id), self.right.outcomes.get(step_id)

    def _is_settled(self, step_id: StepId) -> bool:
        return all(outcome is None or outcome.status.is_terminal for outcome in self._outcomes(step_id))

    def _needs(self, step_id: StepId) -> set[StepId]:
        """The direct dependencies of the step in either definition."""
        needs: set[StepId] = set()
        for side in (self.left, self.right):
            number = side.compiled.step_no.get(step_id)
            if number is not None:
                needs.update(side.compiled.workflow.steps[n].step_id for n in side.compiled.dependencies[number])
        return needs


async def _input_changes(read: ReadRuns, comparison: _Comparison) -> dict[StepId, InputChanges]:
    """How inputs differ, of as many steps as may be looked at; the rest is judged by the graph alone."""
    left, right = comparison.left, comparison.right
    level_of = right.compiled.levels
    differing = [step_id for step_id in comparison.step_ids if comparison.has_other_input(step_id)]
    differing.sort(key=lambda step_id: level_of[right.compiled.step_no[step_id]])
    inputs = [(side, StepInputs(read, side.run, side.compiled)) for side in (left, right)]
    changes: dict[StepId, InputChanges] = {}
    spent = 0
    for step_id in differing[:INPUTS_MAX]:
        if spent > INPUTS_BYTES_MAX:
            break
        before, after = [
            await derived.traced(side.compiled.step_no[step_id], side.steps[step_id]) for side, derived in inputs
        ]
        if before is not None and after is not None:
            spent += before.size_bytes + after.size_bytes
            changes[step_id] = compare_inputs(before, after)
    return changes


def _bounded(diffs: Sequence[StepDiff], differs: Callable[[StepId], bool]) -> Sequence[StepDiff]:
    """The rows as far as they fit into a message: what is unchanged loses its details first, then its row."""
    shorter: Sequence[Callable[[StepDiff], StepDiff | None]] = (
        lambda diff: diff,
        lambda diff: diff if differs(diff.step_id) else _slim(diff),
        lambda diff: diff if differs(diff.step_id) else None,
        lambda diff: _slim(diff) if differs(diff.step_id) else None,
    )
    rows: Sequence[StepDiff] = ()
    for shorten in shorter:
        rows = [row for diff in diffs if (row := shorten(diff)) is not None]
        if sum(map(_diff_bytes, rows)) <= MESSAGE_BYTES_MAX:
            return rows
    return fitting(rows, _diff_bytes)


def _slim(diff: StepDiff) -> StepDiff:
    return replace(diff, left=_slim_step(diff.left), right=_slim_step(diff.right))


def _slim_step(step: Step | None) -> Step | None:
    """The step without what is the same in its definition or can be read with ListSteps."""
    if step is None:
        return None
    return replace(step, depends_on=(), cache=None, cache_key="", error=None, progress=None, output_artifact_ids=())


def _diff_bytes(diff: StepDiff) -> int:
    steps = sum(step_bytes(step) for step in (diff.left, diff.right) if step is not None)
    return 32 + len(diff.step_id) + steps + sum(len(pointer.encode()) + 3 for pointer in diff.input_pointers)
