"""What the operator's settings make of artifacts: where they are looked up, opened and cleared."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from runengine_client.skills.artifact_bucket import ArtifactStoreUrlError, open_bucket
from runengine_server.adapters.artifacts.folder import FolderStore
from runengine_server.adapters.artifacts.probe import RootedArtifactProbe
from runengine_server.adapters.artifacts.reader import RootedArtifactReader
from runengine_server.adapters.artifacts.roots import ArtifactRoot, ArtifactRootError, parse_roots
from runengine_server.ports.artifact_store import ArtifactStore
from runengine_server.ports.clock import Clock

if TYPE_CHECKING:
    from runengine_server.adapters.artifacts.bucket import BucketStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifacts:
    """Where artifacts are looked up and opened, and the store that can be cleared, if there is one."""

    probe: RootedArtifactProbe
    reader: RootedArtifactReader
    store: ArtifactStore | None
    has_roots: bool


def open_artifacts(roots: str, store: str, clock: Clock) -> Artifacts:
    """The parts for these settings.

    Args:
        roots: URI prefixes, separated by commas.
        store: `file:///directory` or `s3://bucket/prefix`; empty for none.
        clock: for what leaves a root alone that does not answer.

    Raises:
        ArtifactRootError: a text is no root, or no store.
    """
    known = parse_roots(roots)
    bucket = _bucket(store) if store and not store.startswith("file:") else None
    cleared: ArtifactStore | None = bucket
    if store.startswith("file:"):
        folder = _folder(store)
        known = (*known, folder)
        cleared = FolderStore(Path(unquote(folder.path)))
    return Artifacts(
        probe=RootedArtifactProbe(known, clock, bucket=bucket),
        reader=RootedArtifactReader(known, bucket),
        store=cleared,
        has_roots=bool(known or bucket),
    )


def _bucket(store: str) -> "BucketStore":
    # Imported when it is configured: obstore takes 5 MB.
    from runengine_server.adapters.artifacts.bucket import BucketStore

    try:
        return BucketStore(open_bucket(store), store)
    except ArtifactStoreUrlError as error:
        raise ArtifactRootError(str(error)) from None


def _folder(store: str) -> ArtifactRoot:
    parsed = parse_roots(store)
    if len(parsed) != 1:
        raise ArtifactRootError(f"{store!r} is no artifact store; write file:///directory or s3://bucket/prefix")
    return parsed[0]
