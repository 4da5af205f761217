"""Takes up a run the moment it exists: the transaction that creates it leases its first steps and asks the cache.

Only where there is room for all of them and nobody else is known to wait; otherwise they are in the queue for a turn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import EngineNo, Place, StepNo
from runengine_server.domain.plan import RebuildPlan
from runengine_server.ports.run_store import CreatedRun, RunFacts
from runengine_server.ports.step_queue import CacheQuestion, Turn
from runengine_server.scheduler.foresight import Foresight
from runengine_server.scheduler.lookout import Lookout
from runengine_server.scheduler.preparation import Foreseen
from runengine_server.scheduler.reaper import Reaper
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.run_contexts import RunContext, RunContexts


@dataclass(slots=True, kw_only=True)
class RunIntake:
    """Intake of one run; open while it is created."""

    engine: EngineNo
    facts: RunFacts
    plan: RebuildPlan
    ready: Sequence[StepNo]
    context: RunContext | None
    foreseen: Sequence[Foreseen]
    reserved: int
    intakes: "RunIntakes"

    @property
    def questions(self) -> Sequence[CacheQuestion]:
        """See the port."""
        return [each.question for each in self.foreseen]

    def created(self, created: CreatedRun) -> None:
        """See the port."""
        self.intakes.created(self, created)

    def __enter__(self) -> Self:
        """The slots are reserved."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """They are free, or taken."""
        self.intakes.closed(self, is_unknown=isinstance(error, UnavailableError))


class RunIntakes:
    """The runs that are being created in this process.

    Attributes:
        reserved: how many slots their first steps will take.
    """

    def __init__(
        self,
        *,
        contexts: RunContexts,
        foresight: Foresight,
        lookout: Lookout,
        reaper: Reaper,
        reporting: Reporting,
        take: Callable[[EngineNo, Turn, Mapping[Place, Foreseen]], None],
        ring: Callable[[], None],
        is_busy: Callable[[], bool],
        on_lost_reply: Callable[[], None],
    ) -> None:
        """Use what the scheduler shares.

        `take` runs what was leased by this engine, all of which was foreseen; `ring` has the next turn taken; a busy
        engine leaves new runs to others; `on_lost_reply` hears that leases may have been granted of which nobody did.
        """
        self._contexts = contexts
        self._foresight = foresight
        self._lookout = lookout
        self._reaper = reaper
        self._reporting = reporting
        self._take = take
        self._ring = ring
        self._is_busy = is_busy
        self._on_lost_reply = on_lost_reply
        self.reserved = 0

    async def open(
        self, engine: EngineNo, room: int, facts: RunFacts, plan: RebuildPlan, ready: Sequence[StepNo]
    ) -> RunIntake:
        """The intake of a run with these ready steps, by an engine that has so many slots free."""
        context: RunContext | None = None
        foreseen: Sequence[Foreseen] = ()
        if ready and len(ready) <= room and not self._lookout.is_due:
            context, foreseen = await self._foresight.of_new_run(facts, ready)
        self.reserved += len(foreseen)
        return RunIntake(
            engine=engine,
            facts=facts,
            plan=plan,
            ready=ready,
            context=context,
            foreseen=foreseen,
            reserved=len(foreseen),
            intakes=self,
        )

    def closed(self, intake: RunIntake, *, is_unknown: bool) -> None:
        """The run was created or not; `is_unknown`: nobody can say."""
        if self._release(intake):  # whoever found no slot meanwhile was told to come back later
            self._lookout.want()
            self._ring()
        if is_unknown:
            self._on_lost_reply()

    def _release(self, intake: RunIntake) -> int:
        """Its slots are reserved no more; returns how many were."""
        released, intake.reserved = intake.reserved, 0
        self.reserved -= released
        return released

    def created(self, intake: RunIntake, created: CreatedRun) -> None:
        """The run exists: tell of it, and run what was leased."""
        try:
            self._created(intake, created)
        except Exception as error:  # the run goes on: its leases are found by the reconciler, its steps by a poll
            self._reporting.run_not_taken_up(created.run, error)
            self._on_lost_reply()

    def _created(self, intake: RunIntake, created: CreatedRun) -> None:
        run, context = created.run, intake.context
        facts = replace(intake.facts, run=run)
        if context is not None:
            self._contexts.hold(context, facts)
        else:
            self._contexts.prime(facts)
            self._foresight.run_created(facts, intake.ready)
        self._reporting.run_created(facts, intake.plan, has_ready_steps=bool(intake.ready))
        self._reaper.run_created(facts.deadline_in_s)
        if left := self._left(intake, created):
            self._leave(left)
        if created.leases:
            self._release(intake)
            turn = Turn(
                accepted=(),
                leases=created.leases,
                misses=created.misses,
                begun=[run],
                ended=(),
                next_available_s=None,
            )
            self._take(intake.engine, turn, {(run, each.question.step): each for each in intake.foreseen})

    def _leave(self, places: Sequence[Place]) -> None:
        """These are in the queue; where they will not be taken from it soon, others hear of it."""
        self._lookout.learn(places)
        self._ring()
        if self._is_busy():
            self._reporting.work_left()

    @staticmethod
    def _left(intake: RunIntake, created: CreatedRun) -> Sequence[Place]:
        leased = {lease.step for lease in created.leases}
        return [(created.run, step) for step in intake.ready if step not in leased]
