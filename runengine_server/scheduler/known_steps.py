"""Which steps have ever been in the cache, so that a miss need not ask why again."""

from runengine_server.domain.cache import CacheKey, CacheMiss
from runengine_server.domain.ids import StepId, Tenant
from runengine_server.domain.states import MissReason

STEPS_MAX = 100_000


class KnownSteps:
    """Steps (of a tenant's workflow) of which a success was filed; what is forgotten is asked for once more."""

    def __init__(self) -> None:
        """Know none."""
        self._steps: set[tuple[Tenant, str, StepId]] = set()

    def has(self, key: CacheKey) -> bool:
        """True when the key's step was seen in the cache."""
        return (key.tenant, key.workflow_name, key.step_id) in self._steps

    def note(self, key: CacheKey, miss: CacheMiss) -> None:
        """Learn from the reason of a miss."""
        if miss.reason is MissReason.INPUT_CHANGED:
            if len(self._steps) >= STEPS_MAX:
                self._steps.clear()
            self._steps.add((key.tenant, key.workflow_name, key.step_id))
