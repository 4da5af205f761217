"""The gate of one limited skill in one engine: permits it may use, attempts that use them, attempts that wait."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio

from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_permits import PermitClaim, PermitGrant
from runengine_server.ports.step_queue import Lease


@dataclass(slots=True, eq=False)
class Waiter:
    """An attempt before the gate.

    Attributes:
        lease: of the attempt.
        since_s: when it came.
        admitted: set once a permit is its own.
        is_held: the database may have been told that its lease is not overdue.
        is_noted: the database has been told.
        noting: held while the database is being told.
    """

    lease: Lease
    since_s: float
    admitted: anyio.Event = field(default_factory=anyio.Event)
    is_held: bool = False
    is_noted: bool = False
    noting: anyio.Lock = field(default_factory=anyio.Lock)


class SkillGate:
    """Counts; what the table of permits says comes in by `granted` and goes out by `claim`.

    The engine never uses more than the table says it holds: it raises its number after the table did, and lowers it
    before.
    """

    def __init__(self, skill_id: SkillId, limit: int) -> None:
        """Hold nothing of a skill whose runner takes `limit` attempts at a time."""
        self.skill_id = skill_id
        self.limit = limit
        self.asked_at_s = float("-inf")
        self._held = 0
        self._stored = 0
        self._target = 0
        self._used = 0
        self._peak = 0
        self._claimed = 0
        self._waiting: dict[Waiter, None] = {}

    @property
    def waiting(self) -> int:
        """How many attempts wait."""
        return len(self._waiting)

    @property
    def backlog(self) -> int:
        """How many would wait even if this engine held every permit there is."""
        return max(0, self._used + len(self._waiting) - self.limit) if self.limit > 0 else 0

    @property
    def is_idle(self) -> bool:
        """Nothing runs or waits, and the table says that nothing is held."""
        return not (self._used or self._waiting or self._stored)

    @property
    def is_urgent(self) -> bool:
        """The table had better be asked now: there is something to give back, or more is wanted than was asked for."""
        return self._stored > self._held or (bool(self._waiting) and self._wanted > max(self._held, self._claimed))

    def enter(self, lease: Lease, now_s: float) -> Waiter | None:
        """Use a permit, which None says, or wait for one, behind those that wait already; `leave` ends either."""
        waiter = None
        if not self._waiting and self._has_room:
            self._used += 1
        else:
            waiter = Waiter(lease, now_s)
            self._waiting[waiter] = None
        self._peak = max(self._peak, self._used + len(self._waiting))
        return waiter

    def leave(self, waiter: Waiter | None) -> None:
        """The attempt has ended, or waits no more."""
        if waiter in self._waiting:
            del self._waiting[waiter]
            return
        self._used -= 1
        self._come_down()
        self._admit()

    def limit_is(self, limit: int) -> None:
        """The runner's latest word; without a limit nobody waits."""
        self.limit = limit
        if limit <= 0:
            self._admit()

    def claim(self, now_s: float) -> PermitClaim:
        """What to tell the table: the most that was wanted since the last time, so that a lull gives nothing back."""
        wanted = min(self._peak, self.limit)
        self._peak = self._used + len(self._waiting)
        self.asked_at_s = now_s
        if wanted <= 0:
            self._held = 0
        return PermitClaim(skill_id=self.skill_id, limit=max(1, self.limit), wanted=max(0, wanted), kept=self._held)

    def granted(self, claim: PermitClaim, grant: PermitGrant) -> None:
        """The table has answered the claim."""
        self._claimed = claim.wanted
        self._held = self._stored = grant.held
        self._target = grant.target
        self._come_down()
        self._admit()

    def waiting_since(self, before_s: float) -> Iterator[Waiter]:
        """Those that wait since before then and of which the database has not been told."""
        return (waiter for waiter in list(self._waiting) if waiter.since_s <= before_s and not waiter.is_noted)

    def is_waiting(self, waiter: Waiter) -> bool:
        """Whether it still waits."""
        return waiter in self._waiting

    @property
    def _has_room(self) -> bool:
        return self._used < self._held or self.limit <= 0

    @property
    def _wanted(self) -> int:
        return min(self._used + len(self._waiting), self.limit)

    def _come_down(self) -> None:
        """Give up what others should have, as far as no attempt uses it."""
        self._held = min(self._held, max(self._target, self._used))

    def _admit(self) -> None:
        while self._waiting and self._has_room:
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            self._used += 1
            waiter.admitted.set()
