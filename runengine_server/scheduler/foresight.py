"""What a turn may lease, prepared before it does: then lease, cache look-up and claim are one round trip.

Whoever completes a step usually knows everything that its dependents read, and whoever creates a run its first steps.
What was not foreseen, or turns out to be in the cache, is prepared after the turn; so foresight costs time when it is
wrong, never correctness.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence

from runengine_server.domain.cache import CacheKey
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import Place, RunKey, StepNo
from runengine_server.planner.step_input import StepValue
from runengine_server.ports.run_store import RunFacts
from runengine_server.ports.step_queue import CacheQuestion, Lease, StepExecuted, StepReused, Turn
from runengine_server.scheduler.attempt import Settled
from runengine_server.scheduler.preparation import Execute, Foreseen, Preparation
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.run_contexts import RunContext, RunContexts
from runengine_server.scheduler.values import StepValues

# New runs, and steps beyond what a turn could lease, that wait to be asked about; the oldest give way.
RUNS_MAX = 1000
PLACES_MAX = 5000


class Foresight:
    """Looks ahead of each turn, as far as the turn can lease; the rest is left for the turns after it."""

    def __init__(
        self, contexts: RunContexts, values: StepValues, preparation: Preparation, reporting: Reporting
    ) -> None:
        """Use what the scheduler shares."""
        self._contexts = contexts
        self._values = values
        self._preparation = preparation
        self._reporting = reporting
        self._created: OrderedDict[RunKey, tuple[RunFacts, Sequence[StepNo]]] = OrderedDict()
        self._left: deque[tuple[Place, RunContext]] = deque(maxlen=PLACES_MAX)

    def run_created(self, facts: RunFacts, ready: Sequence[StepNo]) -> None:
        """A run was created in this process, with these steps in the queue."""
        if facts.base_run is None:  # what a base run has would have to be read first
            self._created[facts.run] = (facts, ready)
            if len(self._created) > RUNS_MAX:
                self._created.popitem(last=False)

    async def of_new_run(self, facts: RunFacts, ready: Sequence[StepNo]) -> tuple[RunContext | None, list[Foreseen]]:
        """What the first steps of a run that is about to be created will ask the cache; only those that will.

        Nothing of a run with a base: what that has would have to be read first.
        """
        if facts.base_run is not None:
            return None, []
        context = await self._contexts.ahead(facts)
        roots = [step for step in ready if not context.compiled.reads[step]]
        found = [self._preparation.foresee((facts.run, step), context, {}) for step in roots]
        foreseen = [each for each in found if each is not None]
        return (context, foreseen) if foreseen else (None, [])

    async def ahead_of(self, batch: Sequence[Settled], capacity: int) -> Mapping[Place, Foreseen]:
        """The steps that the turn may lease, as far as everything they read is at hand; in order of run and step."""
        fresh = {
            (settled.completion.lease.run, settled.completion.lease.step): settled.value
            for settled in batch
            if settled.value is not None
        }
        candidates = [*_dependents(batch), *self._left]  # a turn leases first what it makes ready
        self._left.clear()
        if len(candidates) < capacity and self._created:
            candidates += await self._of_created()
        foreseen: dict[Place, Foreseen] = {}
        for at, (place, context) in enumerate(candidates):
            if len(foreseen) == capacity:
                self._left.extend(candidates[at:])
                break
            self._foresee(place, context, fresh, foreseen)
        return dict(sorted(foreseen.items()))

    def questions(self, foreseen: Mapping[Place, Foreseen]) -> Sequence[CacheQuestion]:
        """What the turn is to ask the cache."""
        return [each.question for each in foreseen.values()]

    def prepared(
        self, foreseen: Mapping[Place, Foreseen], turn: Turn
    ) -> tuple[list[Execute], list[Lease], list[CacheKey]]:
        """The leased steps that can execute right away, the leases still to be prepared, and the keys that missed."""
        ready: list[Execute] = []
        rest: list[Lease] = []
        missed: list[CacheKey] = []
        for lease, miss in zip(turn.leases, turn.misses, strict=True):
            expected = foreseen.get((lease.run, lease.step))
            if miss is None or expected is None:
                rest.append(lease)
            else:
                ready.append(self._preparation.after_miss(lease, expected, miss))
                missed.append(expected.question.query.key)
        return ready, rest, missed

    async def _of_created(self) -> list[tuple[Place, RunContext]]:
        created, self._created = self._created, OrderedDict()
        try:
            contexts = await self._contexts.get(list(created))
        except UnavailableError as error:
            self._reporting.database_unavailable(error)
            return []
        return [
            ((run, step), context)
            for run, (_, ready) in created.items()
            if (context := contexts.get(run))
            for step in ready
        ]

    def _foresee(
        self,
        place: Place,
        context: RunContext,
        fresh: Mapping[Place, StepValue],
        foreseen: dict[Place, Foreseen],
    ) -> None:
        if place in foreseen:
            return
        run, step = place
        values: dict[Place, StepValue] = {}
        for read in reversed(context.compiled.reads[step]):  # of many, the last ends last
            value = fresh.get((run, read)) or self._values.peek((run, read))
            if value is None:
                return
            values[run, read] = value
        if expected := self._preparation.foresee(place, context, values):
            foreseen[place] = expected


def _dependents(batch: Sequence[Settled]) -> Iterator[tuple[Place, RunContext]]:
    for settled in batch:
        completion, context = settled.completion, settled.context
        if context is not None and isinstance(completion, StepExecuted | StepReused):
            for step in completion.dependents.steps:
                yield (completion.lease.run, step), context
