"""What the scheduler remembers of the cache, so that a turn need not ask again."""

from runengine_server.domain.cache import CacheKey, CacheMiss
from runengine_server.domain.ids import StepId, Tenant
from runengine_server.domain.states import MissReason
from runengine_server.ports.clock import Clock

STEPS_MAX = 100_000
GENERATION_S = 1.0


class CacheKnowledge:
    """Steps (of a tenant's workflow) of which a success was filed, and the generations of workflows, a second long.

    A generation that is out of date is a smaller one: a hot value that carries it is not used, which is always right.
    """

    def __init__(self, clock: Clock) -> None:
        """Know nothing."""
        self._clock = clock
        self._steps: set[tuple[Tenant, str, StepId]] = set()
        self._generations: dict[tuple[Tenant, str], tuple[int, float]] = {}

    def has_step(self, key: CacheKey) -> bool:
        """True when the key's step was seen in the cache."""
        return (key.tenant, key.workflow_name, key.step_id) in self._steps

    def generation(self, key: CacheKey) -> int | None:
        """How many removals there were from the key's workflow a moment ago; None when it must be asked."""
        found = self._generations.get((key.tenant, key.workflow_name))
        return found[0] if found and self._clock.monotonic() - found[1] < GENERATION_S else None

    def note(self, key: CacheKey, miss: CacheMiss) -> None:
        """Learn from a miss that has just come."""
        if len(self._steps) + len(self._generations) >= STEPS_MAX:
            self._steps.clear()
            self._generations.clear()
        if miss.reason is MissReason.INPUT_CHANGED:
            self._steps.add((key.tenant, key.workflow_name, key.step_id))
        if miss.generation is not None:
            self._generations[key.tenant, key.workflow_name] = miss.generation, self._clock.monotonic()
