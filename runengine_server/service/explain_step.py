"""Explain a step: gather what is known of it, its dependencies and its base, and put it into sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.ids import RunId, StepId, StepNo
from runengine_server.domain.states import StepStatus
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.decision import step_cache_mode
from runengine_server.planner.explain import BaseStep, Dependency, StepFacts, explain
from runengine_server.planner.input_changes import TracedInput, compare_inputs
from runengine_server.ports.run_reader import RunIdentity, StepFilter
from runengine_server.ports.step_history import StepOutcome
from runengine_server.service.authorization import require
from runengine_server.service.messages import StepExplanation
from runengine_server.service.miss_details import MissDetails, traced_input
from runengine_server.service.run_lookup import (
    ReadRuns,
    find_run,
    placed_steps,
    run_not_found,
    step_not_found,
    with_failed_step,
)
from runengine_server.service.step_inputs import StepInputs

_REACHED = frozenset({StepStatus.READY, StepStatus.RUNNING})


async def explain_step(read: ReadRuns, caller: Caller, run_id: str, step_id: str) -> StepExplanation:
    """Say why a step ran, was reused, waits or failed.

    Raises:
        NotFoundError: RUN_NOT_FOUND, STEP_NOT_FOUND.
    """
    require(caller, Scope.RUN_READ)
    run = await find_run(read, caller, run_id)
    compiled = await read.workflows.compiled(run.workflow_digest)
    number = compiled.step_no.get(StepId(step_id))
    if number is None:
        raise step_not_found(step_id, compiled)
    found = await read.reader.steps(
        run,
        compiled.workflow,
        StepFilter(from_step=number, limit=1, is_full=True),  # for its attempts
    )
    facts = (await read.store.facts([run.key])).get(run.key)
    if found is None or facts is None:
        raise run_not_found(run_id)
    ((_, step),) = placed_steps(read, run, compiled, found.steps)
    outcomes = await read.history.outcomes(run.key, [number, *compiled.dependencies[number]])
    is_resolvable = bool(step.input_hash) or step.status in _REACHED
    own = await StepInputs(read, run, compiled).traced(number, step) if is_resolvable else None
    base = await _Base.find(read, run, found.row.run.base_run_id)
    misses = MissDetails(read, run, compiled)
    await misses.find([step])
    miss = await misses.complete(step, own)
    _, reason = facts.plan[number]
    text = explain(
        StepFacts(
            step=miss.step,
            run=with_failed_step(found.row, compiled),
            mode=step_cache_mode(facts.cache_mode, reason),
            reason=reason,
            cache_version=outcomes[number].cache_version,
            dependencies=await _dependencies(compiled, number, outcomes, base),
            base=None if base is None else await base.step(step.step_id, own),
            nearest=miss.changes,
            is_held=outcomes[number].is_held,
        )
    )
    return StepExplanation(step=replace(miss.step, input=None, output=None, attempts=()), text=text)


class _Base:
    """The run that a run builds on."""

    def __init__(self, read: ReadRuns, run: RunIdentity, compiled: CompiledWorkflow) -> None:
        self._read = read
        self._run = run
        self._compiled = compiled

    @staticmethod
    async def find(read: ReadRuns, run: RunIdentity, base_run_id: RunId | None) -> "_Base | None":
        """The base; None without one, or when it is no longer retained."""
        found = await read.reader.find(run.tenant, base_run_id) if base_run_id else None
        if found is None:
            return None
        return _Base(read, found, await read.workflows.compiled(found.workflow_digest))

    async def outcomes(self, step_ids: Sequence[StepId]) -> Mapping[StepId, StepOutcome]:
        """What these steps came to there, of those that its version has."""
        numbers = {self._compiled.step_no[one]: one for one in step_ids if one in self._compiled.step_no}
        found = await self._read.history.outcomes(self._run.key, list(numbers))
        return {numbers[number]: outcome for number, outcome in found.items()}

    async def step(self, step_id: StepId, own: TracedInput | None) -> BaseStep:
        """The step there, and how the input differs from it."""
        outcome = (await self.outcomes([step_id])).get(step_id)
        has_output = outcome is not None and outcome.output_hash != ""
        earlier: TracedInput | None = None
        if has_output and own is not None:
            number = self._compiled.step_no[step_id]
            earlier = await traced_input(self._read, self._run, self._compiled, number)
        return BaseStep(
            run_id=self._run.run_id,
            workflow_version=self._compiled.workflow.version,
            has_output=has_output,
            input_hash="" if outcome is None else outcome.input_hash,
            cache_version="" if outcome is None else outcome.cache_version,
            changes=None if earlier is None or own is None else compare_inputs(earlier, own),
        )


async def _dependencies(
    compiled: CompiledWorkflow, number: StepNo, outcomes: Mapping[StepNo, StepOutcome], base: _Base | None
) -> list[Dependency]:
    steps = compiled.workflow.steps
    ids = {dependency: steps[dependency].step_id for dependency in compiled.dependencies[number]}
    before = {} if base is None else await base.outcomes(list(ids.values()))
    return [
        Dependency(
            step_id=step_id,
            status=outcomes[dependency].status,
            source=outcomes[dependency].source,
            is_changed=_is_changed(before.get(step_id), outcomes[dependency]),
        )
        for dependency, step_id in ids.items()
    ]


def _is_changed(before: StepOutcome | None, after: StepOutcome) -> bool | None:
    if before is None or not before.output_hash or not after.output_hash:
        return None
    return before.output_hash != after.output_hash
