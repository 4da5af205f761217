"""Which attempts this process runs right now, so that they can be counted, found and cancelled."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from runengine_server.domain.ids import RunKey
from runengine_server.ports.step_queue import Lease


@dataclass(slots=True)
class InFlight:
    """A lease held.

    Attributes:
        lease: the lease.
        scope: cancels its attempt, which waits for its skill or runs it.
        is_calling: its skill was called.
        is_cancelled: it was cancelled, or must not begin.
        is_unwanted: nobody wants its result.
        is_given_up: it must not begin, and is to be handed back.
    """

    lease: Lease
    scope: anyio.CancelScope | None = None
    is_calling: bool = False
    is_cancelled: bool = False
    is_unwanted: bool = False
    is_given_up: bool = False


class AttemptsInFlight:
    """Every lease this process holds, from the turn that granted it to the turn that settled it."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._held: dict[Lease, InFlight] = {}
        self._by_run: dict[RunKey, dict[Lease, InFlight]] = {}
        self._collected: set[Lease] | None = None

    def __len__(self) -> int:
        """How many leases are held."""
        return len(self._held)

    def add(self, leases: Iterable[Lease]) -> list[Lease]:
        """Hold leases; returns those that were not held already."""
        fresh = []
        for lease in leases:
            if lease in self._held:
                continue
            held = InFlight(lease)
            self._held[lease] = held
            self._by_run.setdefault(lease.run, {})[lease] = held
            fresh.append(lease)
        if self._collected is not None:
            self._collected.update(fresh)
        return fresh

    def remove(self, lease: Lease) -> InFlight | None:
        """Let go of a lease; returns what was held."""
        held = self._held.pop(lease, None)
        if held is None:
            return None
        siblings = self._by_run[lease.run]
        del siblings[lease]
        if not siblings:
            del self._by_run[lease.run]
        return held

    def began(self, lease: Lease, scope: anyio.CancelScope) -> None:
        """The lease's attempt runs inside `scope`; one that was cancelled before is so at once."""
        if held := self._held.get(lease):
            held.scope = scope
            if held.is_cancelled:
                scope.cancel()

    def calls(self, lease: Lease) -> None:
        """The lease's skill is called now: it costs money and may end, also in a failing run."""
        if held := self._held.get(lease):
            held.is_calling = True

    def is_given_up(self, lease: Lease) -> bool:
        """True when a lease that is held did not begin and is to be handed back."""
        held = self._held.get(lease)
        return held is not None and held.is_given_up

    def is_cancelled(self, lease: Lease) -> bool:
        """True when a lease that is held must not start its skill any more."""
        held = self._held.get(lease)
        return held is not None and held.is_cancelled

    def leases(self) -> set[Lease]:
        """The leases held."""
        return set(self._held)

    @contextmanager
    def collected(self) -> Iterator[set[Lease]]:
        """A set of the leases held at any moment from now to the end of the block, also those let go of meanwhile."""
        self._collected = self.leases()
        try:
            yield self._collected
        finally:
            self._collected = None

    def cancel_runs(self, runs: Sequence[RunKey]) -> None:
        """Cancel what runs for these runs: they have ended, nobody wants their results."""
        for run in runs:
            for held in list(self._by_run.get(run, {}).values()):
                held.is_unwanted = True
                _cancel(held)

    def give_up(self, runs: Iterable[RunKey]) -> None:
        """Let no further skill begin for these runs: they are failing, and nothing more is to be paid for them."""
        for run in runs:
            for held in list(self._by_run.get(run, {}).values()):
                if not held.is_calling and not held.is_cancelled:
                    held.is_given_up = True
                    _cancel(held)

    def cancel_all(self) -> None:
        """Cancel every attempt: the engine's lease is gone, and theirs with it."""
        self.cancel(self.leases())

    def cancel(self, leases: Iterable[Lease]) -> None:
        """Cancel attempts whose lease is gone, such as those of cancelled runs."""
        for lease in leases:
            if held := self._held.get(lease):
                _cancel(held)


def _cancel(held: InFlight) -> None:
    held.is_cancelled = True
    if held.scope is not None:
        held.scope.cancel()
