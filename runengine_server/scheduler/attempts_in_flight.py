"""Which attempts this process runs right now, so that they can be counted, found and cancelled."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import anyio

from runengine_server.domain.ids import RunKey
from runengine_server.ports.step_queue import Lease


@dataclass(slots=True)
class InFlight:
    """A lease held: which pipeline's slot it uses, how to cancel its skill, and whether nobody wants its result."""

    lease: Lease
    pipeline: int
    scope: anyio.CancelScope | None = None
    is_unwanted: bool = False


class AttemptsInFlight:
    """Every lease this process holds, from the turn that granted it to the turn that settled it."""

    def __init__(self, pipelines: int) -> None:
        """Count per pipeline."""
        self._held: dict[Lease, InFlight] = {}
        self._by_run: dict[RunKey, dict[Lease, InFlight]] = {}
        self._count = [0] * pipelines

    def __len__(self) -> int:
        """How many leases are held."""
        return len(self._held)

    def count(self, pipeline: int) -> int:
        """How many leases a pipeline holds."""
        return self._count[pipeline]

    def add(self, leases: Iterable[Lease], pipeline: int) -> list[Lease]:
        """Hold leases; returns those that were not held already."""
        fresh = []
        for lease in leases:
            if lease in self._held:
                continue
            held = InFlight(lease, pipeline)
            self._held[lease] = held
            self._by_run.setdefault(lease.run, {})[lease] = held
            self._count[pipeline] += 1
            fresh.append(lease)
        return fresh

    def remove(self, lease: Lease) -> InFlight | None:
        """Let go of a lease; returns what was held."""
        held = self._held.pop(lease, None)
        if held is None:
            return None
        self._count[held.pipeline] -= 1
        siblings = self._by_run[lease.run]
        del siblings[lease]
        if not siblings:
            del self._by_run[lease.run]
        return held

    def began(self, lease: Lease, scope: anyio.CancelScope) -> None:
        """The lease's skill runs inside `scope`."""
        if held := self._held.get(lease):
            held.scope = scope

    def leases(self) -> set[Lease]:
        """The leases held."""
        return set(self._held)

    def cancel_runs(self, runs: Sequence[RunKey]) -> None:
        """Cancel what runs for these runs: they have ended, nobody wants their results."""
        for run in runs:
            for held in list(self._by_run.get(run, {}).values()):
                held.is_unwanted = True
                _cancel(held)

    def cancel_all(self) -> None:
        """Cancel everything that runs."""
        for held in list(self._held.values()):
            _cancel(held)

    def cancel_except(self, owned: set[Lease]) -> None:
        """Cancel attempts whose lease is gone, such as those of cancelled runs."""
        for lease, held in list(self._held.items()):
            if lease not in owned:
                _cancel(held)


def _cancel(held: InFlight) -> None:
    if held.scope is not None:
        held.scope.cancel()
