"""What the scheduler knows of the runs it works on: facts, compiled workflow, base results; bounded, reloadable."""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runengine_server.domain.base_run import BaseResult
from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.planner.compiled import CompiledWorkflow, CompiledWorkflows
from runengine_server.planner.step_input import change_value
from runengine_server.planner.version_match import comparable_results
from runengine_server.ports.clock import Clock
from runengine_server.ports.run_store import RunFacts, RunStore
from runengine_server.ports.tracer import UNTRACED, Tracer

# Of runs that wait for their first lease: a base's results take up to 4 MB, and reading them again 30 ms.
BASES_AT_HAND_MAX = 16


@dataclass(slots=True, kw_only=True)
class RunContext:
    """A run as the scheduler uses it.

    Attributes:
        facts: the run.
        compiled: its workflow.
        base: what its base run has and may be equal, by step of this run.
        change: what selectors see as `change`.
        run: what selectors see as `run`.
        deadline_at_s: when its deadline is, on this process's monotonic clock; None without one.
    """

    facts: RunFacts
    compiled: CompiledWorkflow
    base: Mapping[StepNo, BaseResult]
    change: JsonValue
    run: JsonObject
    deadline_at_s: float | None


_Read = tuple[RunFacts, float]
"""Facts, and when they were read."""


class RunContexts:
    """An LRU of run contexts; a miss costs one batched read."""

    def __init__(
        self,
        store: RunStore,
        workflows: CompiledWorkflows,
        clock: Clock,
        contexts_max: int,
        tracer: Tracer = UNTRACED,
    ) -> None:
        """Load from `store`, keep at most `contexts_max` runs; the tracer meets those that are traced."""
        self._store = store
        self._workflows = workflows
        self._clock = clock
        self._max = contexts_max
        self._tracer = tracer
        self._contexts: OrderedDict[RunKey, RunContext] = OrderedDict()
        self._primed: OrderedDict[RunKey, _Read] = OrderedDict()
        self._bases_at_hand: deque[RunKey] = deque()

    def prime(self, facts: RunFacts) -> None:
        """Remember the facts of a run that this process has just created; a base's results only of the newest runs."""
        self._meet(facts)
        self._primed[facts.run] = facts, self._clock.monotonic()
        if facts.base_results is not None:
            self._bases_at_hand.append(facts.run)
        if len(self._bases_at_hand) > BASES_AT_HAND_MAX:
            run = self._bases_at_hand.popleft()
            if run in self._primed:
                known, read_at = self._primed[run]
                self._primed[run] = replace(known, base_results=None), read_at
        if len(self._primed) > self._max:
            self._primed.popitem(last=False)

    async def ahead(self, facts: RunFacts) -> RunContext:
        """The context of a run without a base that this process is about to create; it has no key yet."""
        return await self._context(facts, self._clock.monotonic(), {})

    def hold(self, context: RunContext, facts: RunFacts) -> None:
        """Remember what was made by `ahead`: the run has been created, and these are its facts."""
        self._meet(facts)
        context.facts = facts
        context.deadline_at_s = _deadline_at_s(facts, self._clock.monotonic())
        self._contexts[facts.run] = context
        self._trim()

    def forget(self, run: RunKey) -> None:
        """Drop a run that has ended."""
        self._contexts.pop(run, None)
        self._primed.pop(run, None)

    async def get(self, runs: Sequence[RunKey]) -> Mapping[RunKey, RunContext]:
        """The contexts of runs; a run that no longer exists is left out.

        Raises:
            UnavailableError: the database cannot be reached.
        """
        found: dict[RunKey, RunContext] = {}
        missing: list[RunKey] = []
        for run in runs:
            if run in found:
                continue
            if context := self._contexts.get(run):
                self._contexts.move_to_end(run)
                found[run] = context
            else:
                missing.append(run)
        if missing:
            found.update(await self._load(list(dict.fromkeys(missing))))
        return found

    async def _load(self, runs: list[RunKey]) -> Mapping[RunKey, RunContext]:
        read = {run: primed for run in runs if (primed := self._primed.pop(run, None)) is not None}
        unknown = [run for run in runs if run not in read]
        if unknown:
            asked_at = self._clock.monotonic()
            for run, facts in (await self._store.facts(unknown)).items():
                self._meet(facts)
                read[run] = facts, asked_at
        bases = {
            known.base_run for known, _ in read.values() if known.base_run is not None and known.base_results is None
        }
        base_results = await self._store.base_results(sorted(bases)) if bases else {}
        loaded = {run: await self._context(known, read_at, base_results) for run, (known, read_at) in read.items()}
        self._contexts.update(loaded)
        self._trim()
        return loaded

    async def _context(
        self, facts: RunFacts, read_at: float, base_results: Mapping[RunKey, Mapping[StepNo, BaseResult]]
    ) -> RunContext:
        compiled = await self._workflows.compiled(facts.workflow_digest)
        return RunContext(
            facts=facts,
            compiled=compiled,
            base=await self._base(facts, compiled, base_results),
            change=change_value(facts.change),
            run={"id": facts.run_id, "workflowName": facts.workflow_name},
            deadline_at_s=_deadline_at_s(facts, read_at),
        )

    def _trim(self) -> None:
        while len(self._contexts) > self._max:
            self._contexts.popitem(last=False)

    def _meet(self, facts: RunFacts) -> None:
        if facts.trace is not None:
            self._tracer.run_met(facts)

    async def _base(
        self,
        facts: RunFacts,
        compiled: CompiledWorkflow,
        results: Mapping[RunKey, Mapping[StepNo, BaseResult]],
    ) -> Mapping[StepNo, BaseResult]:
        if facts.base_run is None or facts.base_digest is None:
            return {}
        of_base = results.get(facts.base_run, {}) if facts.base_results is None else facts.base_results
        return comparable_results(await self._workflows.compiled(facts.base_digest), compiled, of_base)


def _deadline_at_s(facts: RunFacts, read_at: float) -> float | None:
    return None if facts.deadline_in_s is None else read_at + facts.deadline_in_s
