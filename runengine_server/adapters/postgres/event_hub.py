"""Rings watchers' bells inside this process."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import anyio

from runengine_server.domain.ids import RunKey


class Bell:
    """A Subscription: rung any number of times between two waits, heard once."""

    def __init__(self) -> None:
        """Not rung."""
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake whoever waits, or will wait next."""
        self._rung.set()

    async def wait(self, timeout_s: float) -> bool:
        """See the port."""
        with anyio.move_on_after(timeout_s):
            await self._rung.wait()
        if not self._rung.is_set():
            return False
        self._rung = anyio.Event()
        return True


class EventHub:
    """EventHints of one process; bounded by its subscriptions. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        """Without subscribers."""
        self._bells: dict[RunKey, set[Bell]] = defaultdict(set)

    @contextmanager
    def subscribe(self, run: RunKey) -> Iterator[Bell]:
        """See the port."""
        bell = Bell()
        self._bells[run].add(bell)
        try:
            yield bell
        finally:
            self._bells[run].discard(bell)
            if not self._bells[run]:
                del self._bells[run]

    def watched(self) -> Sequence[RunKey]:
        """See the port."""
        return list(self._bells)

    def wake(self, runs: Iterable[RunKey]) -> None:
        """See the port."""
        if not self._bells:
            return
        for run in runs:
            for bell in self._bells.get(run, ()):
                bell.ring()

    def wake_all(self) -> None:
        """See the port."""
        for bells in self._bells.values():
            for bell in bells:
                bell.ring()
