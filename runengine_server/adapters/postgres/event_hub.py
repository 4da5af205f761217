"""Rings watchers' bells inside this process."""

import asyncio
from collections.abc import Iterable, Sequence
from math import ceil, inf
from typing import Final

from runengine_server.domain.ids import RunKey

_GRID_S: Final = 0.05
"""Waits run out at multiples of this, so that one timer serves all of them: one for each takes 0.5 KB."""


class _Bell:
    """The bell of a run: however many listen, ringing it wakes those who wait and costs the others nothing."""

    __slots__ = ("hub", "listeners", "rings", "run", "waiting")

    def __init__(self, hub: "EventHub", run: RunKey) -> None:
        self.hub = hub
        self.run = run
        self.listeners = 0
        self.rings = 0
        self.waiting: dict[Listener, None] = {}

    def ring(self) -> None:
        self.rings += 1
        woken, self.waiting = self.waiting, {}
        for listener in woken:
            listener.hear(is_rung=True)

    def run_out(self, now: float) -> float:
        """Wake those whose time is up; returns when the next one's is."""
        late = [listener for listener in self.waiting if listener.until <= now]
        for listener in late:
            del self.waiting[listener]
            listener.hear(is_rung=False)
        return min((listener.until for listener in self.waiting), default=inf)


class Listener:
    """A Subscription: any number of rings between two waits are heard once.

    Watchers wait for hours and there are thousands, so one that waits is a future and an entry of its bell.

    Attributes:
        until: when the wait is over, by the loop's clock.
    """

    __slots__ = ("_bell", "_heard", "_waiter", "until")

    def __init__(self, bell: _Bell) -> None:
        """Listen; what was rung before has been heard."""
        bell.listeners += 1
        self.until = inf
        self._bell = bell
        self._heard = bell.rings
        self._waiter: asyncio.Future[bool]

    def close(self) -> None:
        """See the port."""
        self._bell.waiting.pop(self, None)  # when its wait was cancelled
        self._bell.listeners -= 1
        if not self._bell.listeners:
            self._bell.hub.remove(self._bell.run)

    def wait(self, timeout_s: float) -> asyncio.Future[bool]:
        """See the port."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        if self._heard != self._bell.rings:
            self.hear(is_rung=True)
        else:
            self.until = ceil((loop.time() + timeout_s) / _GRID_S) * _GRID_S
            self._bell.waiting[self] = None
            self._bell.hub.look_at(self.until)
        return self._waiter

    def hear(self, *, is_rung: bool) -> None:
        """End the wait."""
        self._heard = self._bell.rings
        if not self._waiter.done():  # as one that was cancelled is
            self._waiter.set_result(is_rung)


class EventHub:
    """EventHints of one process; bounded by its subscriptions. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        """Without subscribers."""
        self._bells: dict[RunKey, _Bell] = {}
        self._next_look = inf
        self._timer: asyncio.TimerHandle | None = None

    def subscribe(self, run: RunKey) -> Listener:
        """See the port."""
        return Listener(self._bells.setdefault(run, _Bell(self, run)))

    def watched(self) -> Sequence[RunKey]:
        """See the port."""
        return list(self._bells)

    def wake(self, runs: Iterable[RunKey]) -> None:
        """See the port."""
        if not self._bells:
            return
        for run in runs:
            if (bell := self._bells.get(run)) is not None:
                bell.ring()

    def wake_all(self) -> None:
        """See the port."""
        for bell in self._bells.values():
            bell.ring()

    def remove(self, run: RunKey) -> None:
        """Nobody listens to the run any more."""
        del self._bells[run]

    def look_at(self, when: float) -> None:
        """See at this time, by the loop's clock, whose wait has run out."""
        if when >= self._next_look:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._next_look = when
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        now = max(self._next_look, asyncio.get_running_loop().time())  # its timers are some µs early
        self._next_look, self._timer = inf, None
        self.look_at(min((bell.run_out(now) for bell in self._bells.values()), default=inf))
