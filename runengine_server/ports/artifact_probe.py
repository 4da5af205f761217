"""Whether the files that artifacts name are still there."""

from collections.abc import Collection
from typing import Protocol


class ArtifactProbe(Protocol):
    """Looks artifacts up where an operator allowed it; bounded in time, never raises."""

    async def gone(self, uris: Collection[str]) -> frozenset[str]:
        """Those of the URIs that certainly lead nowhere any more; what cannot be told is not among them."""
