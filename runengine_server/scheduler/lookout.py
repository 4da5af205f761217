"""When an engine looks at the queue for steps of which nobody has told it.

It knows what its own turns made ready and which runs it created; the queue also holds what others did not lease, what
was put back, and delayed steps. A look costs next to nothing, until a long transaction somewhere keeps the dead entries
of the index alive: then looks that find nothing are paced, so that they take a twentieth of the time at most.
"""

from collections.abc import Callable, Sequence

from runengine_server.domain.ids import Place
from runengine_server.ports.step_queue import Turn

PACE = 20
KNOWN_MAX = 1000
_FRUITLESS_S = 0.001
_TIMER_S = 0.001


class Lookout:
    """Says what the next turn leases from the queue: what is known to be there, or whatever is there."""

    def __init__(self, poll_s: float, monotonic: Callable[[], float]) -> None:
        """Look at least every `poll_s` seconds of this clock, and now."""
        self._poll_s = poll_s
        self._monotonic = monotonic
        self._known: list[Place] = []
        self._due_at = self._not_before = monotonic()
        self._is_wanted = False
        self._is_owed = False  # a look was due when there was no slot to fill: the turn that frees one looks

    @property
    def has_work(self) -> bool:
        """Whether a turn without completions makes sense."""
        return bool(self._known) or self.is_due

    @property
    def is_due(self) -> bool:
        """Whether others may have left something, so that the next turn looks."""
        return self._monotonic() >= self._due_at

    @property
    def wait_s(self) -> float:
        """How long until a look is due, in seconds."""
        return max(0.0, self._due_at - self._monotonic())

    def learn(self, places: Sequence[Place]) -> None:
        """These steps are in the queue; where they are too many to remember, a look will find them."""
        if len(self._known) + len(places) <= KNOWN_MAX:
            self._known += places
        else:
            self.want()

    def want(self, in_s: float = 0.0) -> None:
        """There may be something, so many seconds from now: look then, as soon as the pace allows."""
        self._is_wanted = True
        self._due_at = min(self._due_at, max(self._not_before, self._monotonic() + in_s))

    def waited(self) -> None:
        """`wait_s` is over; a timer may end a moment before the clock says so."""
        now = self._monotonic()
        if self._due_at - now < _TIMER_S:
            self._due_at = now

    def known(self, capacity: int, *, has_batch: bool) -> Sequence[Place] | None:
        """The steps of the queue that the next turn may lease, each told once; None: it looks at whatever is there.

        Args:
            capacity: how many steps the turn may lease.
            has_batch: whether it has completions, and so takes place in any case.
        """
        is_looking = self.is_due or (has_batch and self._is_owed)
        known, self._known = self._known, []
        if not capacity:
            if known or is_looking:
                self._is_owed = True
                self._due_at = self._monotonic() + self._poll_s
            return ()
        if not is_looking:
            return known
        self._is_owed = self._is_wanted = False  # what is wanted from now on wants another look
        self._due_at = self._monotonic() + self._poll_s
        return None

    def heed(self, turn: Turn, capacity: int) -> None:
        """What a turn says of the next look; a full lease may have left ready steps behind."""
        if turn.look_s is not None:
            self._looked(turn.look_s, turn.next_available_s, has_found=bool(turn.leases))
        elif turn.next_available_s is not None:
            self.want(turn.next_available_s)
        if 0 < capacity <= len(turn.leases):
            self.want()

    def _looked(self, took_s: float, next_s: float | None, *, has_found: bool) -> None:
        now = self._monotonic()
        self._not_before = now + (0.0 if has_found else min(self._poll_s, max(PACE * took_s, _FRUITLESS_S)))
        wait_s = 0.0 if self._is_wanted else min(self._poll_s, self._poll_s if next_s is None else next_s)
        self._due_at = max(self._not_before, now + wait_s)
