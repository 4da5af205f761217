"""Keeps what an engine runs and what the database says that it holds the same."""

from collections.abc import Awaitable, Callable, Sequence

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import EngineNo
from runengine_server.ports.step_queue import Lease, StepQueue
from runengine_server.scheduler.attempts_in_flight import AttemptsInFlight
from runengine_server.scheduler.endings import Endings
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.wakeup import Wakeup


class Reconciler:
    """Compares three times a lease, and at once when a reply was lost or a lease is to be handed back."""

    def __init__(
        self, queue: StepQueue, in_flight: AttemptsInFlight, endings: Endings, reporting: Reporting, lease_s: float
    ) -> None:
        """Compare `queue` with `in_flight`."""
        self._queue = queue
        self._in_flight = in_flight
        self._endings = endings
        self._reporting = reporting
        self._every_s = lease_s / 3
        self._bell = Wakeup()
        self._given_up: list[Lease] = []

    def ring(self) -> None:
        """A reply was lost that may have granted leases: look now."""
        self._bell.ring()

    def give_up(self, lease: Lease) -> None:
        """The attempt of this lease will not begin, for its run is failing; it is held until it is handed back."""
        self._given_up.append(lease)
        self._bell.ring()

    async def run(
        self,
        engine: Callable[[], EngineNo],
        take_up: Callable[[Sequence[Lease]], Awaitable[None]],
        let_go: Callable[[Lease], object],
    ) -> None:
        """Reconcile until cancelled.

        Args:
            engine: this engine's number.
            take_up: runs leases that the database granted unheard.
            let_go: frees the slot of a lease that was handed back.
        """
        while True:
            await self._bell.wait(self._every_s)
            try:
                await self._hand_back(let_go)
                unknown = await self._compare(engine)
            except UnavailableError as error:
                self._reporting.database_unavailable(error)
                continue
            if unknown:
                await take_up(unknown)

    async def _hand_back(self, let_go: Callable[[Lease], object]) -> None:
        leases = list(self._given_up)
        if not leases:
            return
        taken = await self._queue.hand_back(leases)
        del self._given_up[: len(leases)]
        for lease in leases:
            let_go(lease)
        self._reporting.runs_changed(taken.runs)
        await self._endings.happened(taken.ended, {})

    async def _compare(self, engine: Callable[[], EngineNo]) -> Sequence[Lease]:
        """Cancel what is no longer held, give up what need not begin; returns leases that nobody here knows of."""
        number, held_before = engine(), self._in_flight.leases()
        with self._in_flight.collected() as seen:
            holdings = await self._queue.owned(number)
        if number != engine():
            return ()
        owned = set(holdings.leases)
        self._in_flight.cancel(held_before - owned)
        unknown = self._in_flight.add(owned - seen)
        self._in_flight.give_up(holdings.failing)
        return unknown
