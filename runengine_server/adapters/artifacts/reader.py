"""Opens artifacts by their URIs: in the store, below a folder or a server that the operator named, and nowhere else."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runengine_server.adapters.artifacts.errors import out_of_reach
from runengine_server.adapters.artifacts.files import find_file
from runengine_server.adapters.artifacts.roots import ArtifactRoot, split_uri
from runengine_server.ports.artifact_store import ArtifactBytes, BytesElsewhere

if TYPE_CHECKING:
    from runengine_server.adapters.artifacts.bucket import BucketStore


class RootedArtifactReader:
    """ArtifactReader below the operator's roots."""

    def __init__(self, roots: Sequence[ArtifactRoot], bucket: "BucketStore | None" = None) -> None:
        """Read below `roots` and in the bucket."""
        self._roots = roots
        self._bucket = bucket

    async def find(self, uri: str) -> ArtifactBytes | BytesElsewhere | None:
        """See the port."""
        if self._bucket is not None and self._bucket.holds(uri):
            return await self._bucket.find(uri)
        parts = split_uri(uri)
        root = None if parts is None else next((each for each in self._roots if each.holds(parts)), None)
        if parts is None or root is None:
            raise out_of_reach()
        if root.scheme == "file":
            return await find_file(root, parts)
        return BytesElsewhere(url=uri)
