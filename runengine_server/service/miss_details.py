"""Says of a cache miss what the input changed from: the nearest earlier success, looked for when the step is read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.ids import StepNo
from runengine_server.domain.run import Step
from runengine_server.domain.states import MissReason
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.input_changes import InputChanges, TracedInput, compare_inputs
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.ports.step_history import EarlierStep, MissedStep
from runengine_server.service.run_lookup import ReadRuns
from runengine_server.service.step_inputs import StepInputs

MISSES_AT_ONCE_MAX = 50
"""Each costs deriving an input of another run."""

VERSIONS_MAX = 4
"""Each other version that is looked at has to be compiled if nobody has used it lately."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissDetail:
    """The step with its decision completed, and how its input differs; None when that can no longer be derived."""

    step: Step
    changes: InputChanges | None


def has_details(step: Step) -> bool:
    """True when a step's decision is a miss whose input changed and is therefore worth completing."""
    return step.cache is not None and step.cache.miss_reason is MissReason.INPUT_CHANGED and step.started_at is not None


class MissDetails:
    """Completes decisions of one run's steps, for one request; finds all nearest successes in one query."""

    def __init__(self, read: ReadRuns, run: RunIdentity, compiled: CompiledWorkflow) -> None:
        """Look nothing up yet."""
        self._read = read
        self._run = run
        self._compiled = compiled
        self._nearest: dict[str, EarlierStep] = {}

    async def find(self, steps: Sequence[Step]) -> None:
        """Look up the nearest success of each step that has details; at most MISSES_AT_ONCE_MAX of them."""
        missed = [
            MissedStep(step_id=step.step_id, started_at=step.started_at, input_hash=step.input_hash)
            for step in steps
            if has_details(step) and step.started_at is not None
        ][:MISSES_AT_ONCE_MAX]
        if not missed:
            return
        runs = _of_few_versions(self._run, await self._read.history.neighbours(self._run, self._compiled.workflow.name))
        numbers = []
        for run in runs:
            step_no = (await self._read.workflows.compiled(run.workflow_digest)).step_no
            numbers.append([step_no.get(step.step_id) for step in missed])
        found = await self._read.history.nearest_successes(missed, runs, numbers)
        self._nearest.update((step.step_id, near) for step, near in zip(missed, found, strict=True) if near is not None)

    async def complete(self, step: Step, own: TracedInput | None) -> MissDetail:
        """The step with the nearest run and the pointers that differ from it, as far as `find` found one."""
        near = self._nearest.get(step.step_id)
        if near is None or step.cache is None:
            return MissDetail(step=step, changes=None)
        earlier = await self._traced(near)
        changes = None if own is None or earlier is None else compare_inputs(earlier, own)
        decision: CacheDecision = replace(
            step.cache,
            nearest_run_id=near.run.run_id,
            changed_pointers=() if changes is None else changes.pointers,
        )
        return MissDetail(step=replace(step, cache=decision), changes=changes)

    async def _traced(self, near: EarlierStep) -> TracedInput | None:
        compiled = await self._read.workflows.compiled(near.run.workflow_digest)
        return await traced_input(self._read, near.run, compiled, near.step)


def _of_few_versions(run: RunIdentity, others: Sequence[RunIdentity]) -> Sequence[RunIdentity]:
    """The runs of the run's own workflow version and of the other versions run most recently."""
    newest_first = sorted(others, key=lambda other: other.key, reverse=True)
    versions = dict.fromkeys([run.workflow_digest, *(other.workflow_digest for other in newest_first)])
    looked_at = frozenset(list(versions)[: 1 + VERSIONS_MAX])
    return [other for other in others if other.workflow_digest in looked_at]


async def traced_input(
    read: ReadRuns, run: RunIdentity, compiled: CompiledWorkflow, number: StepNo
) -> TracedInput | None:
    """The input of a step of another run; None when it can no longer be derived."""
    outcome = (await read.history.outcomes(run.key, [number]))[number]
    return await StepInputs(read, run, compiled).traced(number, outcome)
