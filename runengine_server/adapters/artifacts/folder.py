"""The artifact store in a local folder: listed and cleared."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeVar

import anyio.to_thread

from runengine_client.skills.artifact_layout import (
    CONTENTS,
    INCOMING,
    REMOVING,
    content_hash_of_folder,
    folder_of,
    marker_of,
)
from runengine_server.adapters.artifacts.errors import store_unavailable

T = TypeVar("T")

OWNER = "owner"
_BATCH = 1_000


class FolderStore:
    """ArtifactStore in a folder."""

    def __init__(self, root: Path) -> None:
        """Use the folder, which skills make."""
        self._root = root

    async def old_contents(self, before: datetime) -> AsyncIterator[Sequence[str]]:
        """See the port."""
        contents = self._old_contents(before.timestamp())
        while found := await _in_thread(lambda: list(islice(contents, _BATCH))):
            yield found

    async def remove(self, content_hash: str, before: datetime) -> int | None:
        """See the port."""
        return await _in_thread(lambda: self._remove(content_hash, before.timestamp()))

    async def remove_unfinished(self, before: datetime) -> int:
        """See the port."""
        return await _in_thread(lambda: self._remove_unfinished(before.timestamp()))

    async def owner(self, claimant: str) -> str:
        """See the port."""
        return await _in_thread(lambda: self._owner(claimant))

    def _old_contents(self, before: float) -> Iterator[str]:
        root = self._root / CONTENTS
        for group in _folders(root):
            for folder in _folders(group):
                content_hash = content_hash_of_folder(f"{CONTENTS}/{group.name}/{folder.name}")
                if content_hash is not None and all(stat.st_mtime < before for _, stat in _files(folder)):
                    yield content_hash

    def _remove(self, content_hash: str, before: float) -> int | None:
        marker = self._root / marker_of(content_hash)
        marker.parent.mkdir(exist_ok=True)
        marker.touch()
        try:
            folder = self._root / folder_of(content_hash)
            files = list(_files(folder))
            if any(stat.st_mtime >= before for _, stat in files):
                return None
            for path, _ in files:
                path.unlink(missing_ok=True)
            with suppress(OSError):  # not there, or published into again
                folder.rmdir()
            return max((stat.st_size for _, stat in files), default=0)  # its names are links to the same bytes
        finally:
            marker.unlink(missing_ok=True)

    def _remove_unfinished(self, before: float) -> int:
        count = 0
        for folder in (INCOMING, REMOVING):
            for path, stat in _files(self._root / folder):
                if stat.st_mtime < before:
                    path.unlink(missing_ok=True)
                    count += 1
        return count

    def _owner(self, claimant: str) -> str:
        path = self._root / OWNER
        # A link, as it is there with what it says or not at all.
        with suppress(FileExistsError), NamedTemporaryFile("w", dir=self._root, encoding="utf-8") as claim:
            claim.write(claimant)
            claim.flush()
            path.hardlink_to(claim.name)
        return path.read_text(encoding="utf-8")


def _folders(parent: Path) -> list[Path]:
    """The folders in a folder, by name; no links."""
    try:
        return sorted(Path(entry.path) for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files in a folder; of a link the link itself."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            yield Path(entry.path), entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await anyio.to_thread.run_sync(work)
    except OSError as error:
        raise store_unavailable() from error
