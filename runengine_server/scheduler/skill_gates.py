"""Keeps the limits of skills over all engines: an attempt of a limited skill waits for one of this engine's permits.

Permits come in blocks from a table that all engines share (ports/skill_permits.py), so that a step costs no round trip
of its own. One exchange is in flight at a time: at once when attempts wait for more than was asked for or permits are
to be given back, else every `permits_s` while any are held or waited for; so an engine learns what others want.

What a skill's limit keeps waiting is leased all the same, but takes no slot of the engine: steps of other skills go on.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import EngineNo, SkillId
from runengine_server.ports.clock import Clock
from runengine_server.ports.skill_permits import SkillPermits
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.ports.step_queue import StepQueue
from runengine_server.scheduler.preparation import Execute
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.skill_gate import SkillGate, Waiter
from runengine_server.scheduler.turns import answered
from runengine_server.scheduler.wakeup import Wakeup

# An engine asks a runner it has not reached yet twice a second: longer than this nobody waits for its list of skills.
_KNOWN_WITHIN_S = 2.0


class SkillGates:
    """A gate for each limited skill that is in use; skills without a limit cost a look at the catalogue."""

    def __init__(
        self,
        *,
        skills: SkillRunner,
        permits: SkillPermits,
        queue: StepQueue,
        clock: Clock,
        reporting: Reporting,
        permits_s: float,
    ) -> None:
        """Ask `skills` for limits and `permits` for permits.

        Args:
            skills: knows each skill's limit; the latest word counts.
            permits: the table.
            queue: is told which leases are not overdue although they wait.
            clock: says how long the engine's own lease lasts; the event loop's time stands still while it works.
            reporting: hears of a table that cannot be reached.
            permits_s: seconds between exchanges while all is well.
        """
        self._skills = skills
        self._permits = permits
        self._queue = queue
        self._clock = clock
        self._reporting = reporting
        self._permits_s = permits_s
        self._gates: dict[SkillId, SkillGate] = {}
        self._engine = EngineNo(0)
        self._leased_until_s = float("-inf")
        self._renewed = anyio.Event()
        self._turn = 0
        self._bell = Wakeup()
        self._on_waiting: Callable[[], None] = lambda: None

    @property
    def backlog(self) -> int:
        """How many leased attempts the limits keep waiting, whichever engine holds the permits."""
        return sum(gate.backlog for gate in self._gates.values())

    def lease_end_s(self, lease_s: float) -> float:
        """When a lease ends that is asked for now."""
        return self._clock.monotonic() + lease_s

    def lease_begins(self, engine: EngineNo, until_s: float) -> None:
        """The engine has a new number, under which it holds nothing, and a lease until then."""
        self._engine, self._gates = engine, {}
        self.lease_renewed(until_s)

    def lease_renewed(self, until_s: float) -> None:
        """The engine's own lease lasts until then: so long nobody else has its permits."""
        self._leased_until_s = until_s
        self._renewed.set()
        self._renewed = anyio.Event()

    def permits_freed(self) -> None:
        """Another engine gave permits back; ask now where attempts wait."""
        for gate in self._gates.values():
            if gate.waiting:
                gate.asked_at_s = float("-inf")
        self._bell.ring()

    @property
    def is_leased(self) -> bool:
        """False when the engine's own lease may have ended: it must not start what others may run by now."""
        return self._clock.monotonic() < self._leased_until_s

    @asynccontextmanager
    async def passed(self, step: Execute, timeout_ms: Callable[[Execute], int]) -> AsyncIterator[bool]:
        """A permit of the step's skill is held inside the block; waiting for it is no time of the attempt.

        False when the attempt must not start any more.
        """
        gate = await self._gate(step.context.compiled.workflow.steps[step.lease.step].skill_id)
        if gate is None:
            await self._until_leased()
            yield True
            return
        may_begin = True
        waiter = gate.enter(step.lease, anyio.current_time())
        try:
            if waiter is not None:
                if gate.is_urgent:
                    self._bell.ring()
                if gate.backlog:
                    self._on_waiting()
                await waiter.admitted.wait()
                if waiter.is_held:
                    async with waiter.noting:  # not before its `hold` has ended, whatever became of that
                        begin = partial(self._queue.begin, self._engine, step.lease, timeout_ms(step))
                        may_begin = await answered(begin, self._reporting)
            await self._until_leased()
            yield may_begin
        finally:
            gate.leave(waiter)
            if gate.is_urgent:
                self._bell.ring()

    async def run(self, on_waiting: Callable[[], None]) -> None:
        """Exchange permits until cancelled; `on_waiting` hears of attempts that begin to wait and take no slot."""
        self._on_waiting = on_waiting
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._exchange_permits)
            tasks.start_soon(self._hold_leases)

    async def _until_leased(self) -> None:
        while not self.is_leased:
            await self._renewed.wait()

    async def _gate(self, skill_id: SkillId) -> SkillGate | None:
        """The gate of a skill with a limit; a runner that cannot be asked for one within a moment has none."""
        known = self._skills.availability(skill_id)
        give_up_at_s = anyio.current_time() + _KNOWN_WITHIN_S
        while known.has_target and not known.is_catalogue_known and anyio.current_time() < give_up_at_s:
            await anyio.sleep(_KNOWN_WITHIN_S / 20)
            known = self._skills.availability(skill_id)
        gate = self._gates.get(skill_id)
        if gate is None and (limit := self._limit(skill_id)) > 0:
            gate = self._gates[skill_id] = SkillGate(skill_id, limit)
        return gate

    def _limit(self, skill_id: SkillId) -> int:
        info = self._skills.availability(skill_id).info
        return info.max_concurrency if info is not None else 0

    async def _exchange_permits(self) -> None:
        while True:
            now_s = anyio.current_time()
            due = [g for g in self._gates.values() if g.is_urgent or now_s >= g.asked_at_s + self._permits_s]
            if not due:
                next_at_s = min((gate.asked_at_s for gate in self._gates.values()), default=None)
                await self._bell.wait(None if next_at_s is None else max(0.0, next_at_s + self._permits_s - now_s))
                continue
            try:
                is_answered = await self._exchange(due)
            except UnavailableError as error:
                self._reporting.database_unavailable(error)
                is_answered = False
            except Exception as error:
                self._reporting.turn_failed(error)
                is_answered = False
            if not is_answered:
                await anyio.sleep(self._permits_s)

    async def _exchange(self, gates: Sequence[SkillGate]) -> bool:
        """Settle these gates with the table; False when it has no answer for this engine."""
        engine, now_s = self._engine, anyio.current_time()
        for gate in gates:
            gate.limit_is(self._limit(gate.skill_id))
        claims = [gate.claim(now_s) for gate in gates]
        self._turn += 1
        grants = await self._permits.exchange(engine, self._turn, claims)
        if engine != self._engine:
            return True  # these gates are no longer ours
        for gate, claim, grant in zip(gates, claims, grants, strict=False):
            gate.granted(claim, grant)
            if gate.is_idle:
                del self._gates[gate.skill_id]
        return bool(grants)

    async def _hold_leases(self) -> None:
        """Tell the database of attempts that wait, or their leases would be overdue; few wait long enough for it."""
        while True:
            await anyio.sleep(self._permits_s)
            before_s = anyio.current_time() - self._permits_s
            try:
                for gate in list(self._gates.values()):
                    for waiter in gate.waiting_since(before_s):
                        await self._hold(gate, waiter)
            except Exception as error:
                self._reporting.turn_failed(error)

    async def _hold(self, gate: SkillGate, waiter: Waiter) -> None:
        async with waiter.noting:
            if gate.is_waiting(waiter):
                waiter.is_held = True
                waiter.is_noted = await self._noted(self._queue.hold(self._engine, waiter.lease))

    async def _noted(self, note: Awaitable[None]) -> bool:
        """Tell the database; untold, at worst the lease is taken back as overdue."""
        try:
            await note
        except UnavailableError as error:
            self._reporting.database_unavailable(error)
            return False
        return True
