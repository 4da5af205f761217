"""Leased steps that still have to be prepared: one batch after another, beside the turns.

What comes while one is prepared is the next one, so that a slow database gets few large questions, not many small ones.
"""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence

from runengine_server.domain.ids import RunKey
from runengine_server.ports.step_queue import Lease


class Unforeseen:
    """Gathers leases, with the runs whose first lease is among them."""

    def __init__(
        self,
        prepare: Callable[[Sequence[Lease], Collection[RunKey]], Awaitable[None]],
        start: Callable[[Coroutine[object, object, None]], None],
    ) -> None:
        """Prepare batches with `prepare`, in a task that `start` starts when there is something to do."""
        self._prepare = prepare
        self._start = start
        self._leases: list[Lease] = []
        self._begun: set[RunKey] = set()
        self._is_preparing = False

    def add(self, leases: Sequence[Lease], begun: Collection[RunKey]) -> None:
        """Have these prepared soon."""
        self._leases += leases
        self._begun.update(begun)
        if not self._is_preparing:
            self._is_preparing = True
            self._start(self._run())

    async def _run(self) -> None:
        try:
            while self._leases:
                (leases, self._leases), (begun, self._begun) = (self._leases, []), (self._begun, set())
                await self._prepare(leases, begun)
        finally:
            self._is_preparing = False
