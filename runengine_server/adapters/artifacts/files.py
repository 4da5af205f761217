"""Opens files below a root: regular ones only, and nothing that a link, or a swap while we look, leads out to."""

import os
import stat
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult

import anyio
import anyio.to_thread

from runengine_server.adapters.artifacts.errors import bytes_gone, out_of_reach, store_unavailable
from runengine_server.adapters.artifacts.roots import ArtifactRoot

CHUNK_BYTES = 256 * 1024

_threads = anyio.CapacityLimiter(16)
"""Files are read here, so that a folder on a network that hangs does not take the threads of everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBytes:
    """ArtifactBytes in a file below a root."""

    root: ArtifactRoot
    uri: SplitResult
    size_bytes: int

    async def chunks(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """See the port."""
        descriptor = await anyio.to_thread.run_sync(_open, self.root, self.uri, limiter=_threads)
        if descriptor is None:
            raise bytes_gone()
        try:
            while start < end:
                wanted = min(CHUNK_BYTES, end - start)
                chunk = await anyio.to_thread.run_sync(os.pread, descriptor, wanted, start, limiter=_threads)
                if not chunk:
                    raise bytes_gone()
                start += len(chunk)
                yield chunk
        except OSError as error:
            raise store_unavailable() from error
        finally:
            os.close(descriptor)


async def find_file(root: ArtifactRoot, uri: SplitResult) -> FileBytes | None:
    """The bytes of the file that a URI below the root names; None when there is no such file.

    Raises:
        NotFoundError: ARTIFACT_OUT_OF_REACH, links lead out of the root, or it is not a regular file.
        UnavailableError: ARTIFACT_STORE_UNAVAILABLE, also when the root itself is not there.
    """
    size = await anyio.to_thread.run_sync(_size, root, uri, limiter=_threads)
    return None if size is None else FileBytes(root=root, uri=uri, size_bytes=size)


def _size(root: ArtifactRoot, uri: SplitResult) -> int | None:
    descriptor = _open(root, uri)
    if descriptor is None:
        return None
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _open(root: ArtifactRoot, uri: SplitResult) -> int | None:
    """The open file; None when it is not there."""
    if not os.path.isdir(root.path):  # noqa: PTH112 - a text, as in the URI
        raise store_unavailable()
    path = root.file_of(uri)
    if path is None:
        raise out_of_reach()
    try:
        descriptor = _open_without_links(path.parts)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise store_unavailable() from error
    raise out_of_reach()


def _open_without_links(parts: tuple[str, ...]) -> int:
    """Opens a path that has no links, folder by folder: a link that was put there since is refused."""
    folder = os.open(parts[0], os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[1:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Without O_NONBLOCK opening a pipe would wait for a writer.
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        with suppress(OSError):
            os.close(folder)
