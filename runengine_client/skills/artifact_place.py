"""Says where a skill server's artifacts go: a local folder, or a store named by its URL."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runengine_client.skills.artifact_bucket import ArtifactBucket, open_bucket
from runengine_client.skills.artifact_folder import ArtifactFolder, ArtifactStore

Folder = str | os.PathLike[str]


def open_artifact_store(
    *, artifact_dir: Folder | None, artifact_store: str | None, readable_dirs: Sequence[Folder] = ()
) -> ArtifactStore:
    """The store; skills read from it, from `readable_dirs` and, where both are given, from `artifact_dir`, too.

    Args:
        artifact_dir: a local folder; artifacts go there unless there is a store.
        artifact_store: `file:///directory` or `s3://bucket/prefix`.
        readable_dirs: further folders that skills may read artifacts from.

    Raises:
        ArtifactStoreUrlError: the URL names no store.
        ValueError: neither a folder nor a store is given.
        ImportError: a bucket needs obstore, which is not installed.
    """
    if artifact_store is None:
        if artifact_dir is None:
            raise ValueError("say where artifacts go: artifact_dir or artifact_store")
        return ArtifactFolder(artifact_dir, readable_roots=readable_dirs)
    roots = [*readable_dirs, *([artifact_dir] if artifact_dir is not None else [])]
    parts = urlsplit(artifact_store)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path not in ("", "/"):
        return ArtifactFolder(Path(unquote(parts.path)), readable_roots=roots)
    return ArtifactBucket(open_bucket(artifact_store), artifact_store, readable_roots=roots)
