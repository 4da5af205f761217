"""Outputs of finished steps as selectors see them, kept near: who unlocked a step usually has its inputs at hand."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from runengine_server.domain.ids import Place
from runengine_server.planner.step_input import StepValue, stored_value
from runengine_server.ports.run_store import RunStore


class StepValues:
    """A byte-bounded LRU over the store's outputs, by (run, step) as the run sees them."""

    def __init__(self, store: RunStore, bytes_max: int) -> None:
        """Load from `store`, keep at most `bytes_max` of canonical bytes."""
        self._store = store
        self._bytes_max = bytes_max
        self._bytes = 0
        self._values: OrderedDict[Place, tuple[StepValue, int]] = OrderedDict()

    def put(self, place: Place, value: StepValue, size_bytes: int) -> None:
        """Remember a committed value."""
        if place in self._values:
            return
        self._values[place] = (value, size_bytes)
        self._bytes += size_bytes
        while self._bytes > self._bytes_max:
            _, (_, dropped) = self._values.popitem(last=False)
            self._bytes -= dropped

    def peek(self, place: Place) -> StepValue | None:
        """A value that is at hand."""
        kept = self._values.get(place)
        return kept[0] if kept else None

    async def get(self, places: Iterable[Place]) -> Mapping[Place, StepValue]:
        """The values of steps that have finished successfully; those that have not are left out.

        Raises:
            UnavailableError: the database cannot be reached.
        """
        found: dict[Place, StepValue] = {}
        missing: dict[Place, None] = {}
        for place in places:
            if kept := self._values.get(place):
                self._values.move_to_end(place)
                found[place] = kept[0]
            else:
                missing[place] = None
        if missing:
            for place, stored in (await self._store.outputs(list(missing))).items():
                value = stored_value(stored.body, stored.artifacts)
                self.put(place, value, len(stored.body))
                found[place] = value
        return found
