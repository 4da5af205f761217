"""Rings watchers' bells inside this process."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from runengine_server.domain.ids import RunKey


class _Bell:
    """The bell of a run: however many listen, ringing it wakes those who wait and costs the others nothing."""

    def __init__(self) -> None:
        self.listeners = 0
        self.rings = 0
        self.next_ring = asyncio.Event()

    def ring(self) -> None:
        self.rings += 1
        self.next_ring.set()
        self.next_ring = asyncio.Event()


class Listener:
    """A Subscription: any number of rings between two waits are heard once."""

    __slots__ = ("_bell", "_heard")

    def __init__(self, bell: _Bell) -> None:
        """Has heard what was rung before."""
        self._bell = bell
        self._heard = bell.rings

    async def wait(self, timeout_s: float) -> bool:
        """See the port."""
        if self._heard == self._bell.rings:
            # (anyio's scope takes 0.8 KB more of each watcher.)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._bell.next_ring.wait()
        is_rung = self._heard != self._bell.rings
        self._heard = self._bell.rings
        return is_rung


class EventHub:
    """EventHints of one process; bounded by its subscriptions. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        """Without subscribers."""
        self._bells: dict[RunKey, _Bell] = {}

    @contextmanager
    def subscribe(self, run: RunKey) -> Iterator[Listener]:
        """See the port."""
        bell = self._bells.setdefault(run, _Bell())
        bell.listeners += 1
        try:
            yield Listener(bell)
        finally:
            bell.listeners -= 1
            if not bell.listeners:
                del self._bells[run]

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
