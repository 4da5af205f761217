"""Keeps what skills publish in a local folder, each content once, addressed by its SHA-256."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from runengine_client.skills.artifact_layout import INCOMING, REMOVAL_S_MAX, folder_of, marker_of
from runengine_client.skills.errors import SkillError

ArtifactData = bytes | bytearray | memoryview | Path

_CHUNK_BYTES = 1 << 20
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A published file; `content_hash` is the lower-case hex SHA-256 of its bytes."""

    uri: str
    content_hash: str
    size_bytes: int
    filename: str
    media_type: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    made_from: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The form in which selectors hand artifacts to other skills; goes well into an output."""
        return {
            "type": self.media_type,
            "uri": self.uri,
            "contentHash": self.content_hash,
            "sizeBytes": self.size_bytes,
            "filename": self.filename,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArtifact:
    """Bytes that are in a store."""

    uri: str
    content_hash: str
    size_bytes: int


class ArtifactStore(Protocol):
    """Where skills publish to and read from; every method may be called from any thread."""

    def store(self, data: ArtifactData, *, filename: str) -> StoredArtifact:
        """The bytes are durable under the filename when this returns."""

    def read(self, artifact: Artifact | Mapping[str, Any]) -> bytes:
        """The artifact's bytes, checked against its content hash."""


class ReadableFolders:
    """Reads artifacts of local folders, and nothing else of the machine."""

    def __init__(self, roots: Sequence[str | os.PathLike[str]]) -> None:
        """Read below these folders."""
        self._roots = [Path(root).resolve() for root in roots]

    def read(self, artifact: Artifact | Mapping[str, Any]) -> bytes:
        """The artifact's bytes, checked against its content hash.

        Raises:
            SkillError: ARTIFACT_INVALID, ARTIFACT_FORBIDDEN (outside the readable folders), ARTIFACT_GONE or
                ARTIFACT_CORRUPT (its bytes are not those of its hash); none is retryable.
        """
        uri, content_hash = uri_and_hash(artifact)
        path = self._path(uri)
        try:
            data = path.read_bytes()
        except OSError:
            raise SkillError("ARTIFACT_GONE", "The artifact's file cannot be read any more") from None
        return checked(data, content_hash)

    def _path(self, uri: str) -> Path:
        parts = urlsplit(uri)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise SkillError("ARTIFACT_FORBIDDEN", "This runner reads artifacts of local folders only")
        path = Path(unquote(parts.path)).resolve()
        if not any(path.is_relative_to(root) for root in self._roots):
            raise SkillError("ARTIFACT_FORBIDDEN", "The artifact is outside the folders this runner may read")
        return path


class ArtifactFolder:
    """A content-addressed folder: `<root>/sha256/ab/cdef…/<filename>`; safe for many processes at once."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        readable_roots: Sequence[str | os.PathLike[str]] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make the folder if it is not there.

        Args:
            root: where to store.
            readable_roots: further folders that `read` may read from, such as another skill server's.
            sleep: waits so many seconds.
        """
        self.root = Path(root).resolve()
        self._incoming = self.root / INCOMING
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._folders = ReadableFolders([self.root, *readable_roots])
        self._sleep = sleep

    def store(self, data: ArtifactData, *, filename: str) -> StoredArtifact:
        """The bytes are durable under the filename when this returns; equal content takes its space once.

        Args:
            data: the bytes, or the path of a file to copy.
            filename: one path component, at most 255 bytes.

        Atomic with: a link or a rename; no reader ever sees a partial file.
        Idempotent by: content and filename.

        Raises:
            ValueError: the filename is not a single path component.
        """
        check_filename(filename)
        incoming, content_hash, size = self._write_incoming(data)
        try:
            target = self.root / folder_of(content_hash) / filename
            waited_s = 0.0
            # Until it is there although nobody clears it away: see artifact_layout.py.
            while self._place(incoming, target):
                while waited_s < REMOVAL_S_MAX and (self.root / marker_of(content_hash)).exists():
                    self._sleep(_POLL_S)
                    waited_s += _POLL_S
                if target.exists():
                    break
        finally:
            incoming.unlink(missing_ok=True)
        return StoredArtifact(uri=target.as_uri(), content_hash=content_hash, size_bytes=size)

    def read(self, artifact: Artifact | Mapping[str, Any]) -> bytes:
        """The artifact's bytes, checked against its content hash (see `ReadableFolders.read`)."""
        return self._folders.read(artifact)

    def _write_incoming(self, data: ArtifactData) -> tuple[Path, str, int]:
        """A file with the bytes, their hash and how many they are."""
        digest = hashlib.sha256()
        size = 0
        descriptor, name = tempfile.mkstemp(dir=self._incoming)
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as out:
                for chunk in chunks_of(data):
                    digest.update(chunk)
                    out.write(chunk)
                    size += len(chunk)
                out.flush()
                os.fchmod(out.fileno(), 0o644)
                os.fsync(out.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path, digest.hexdigest(), size

    def _place(self, incoming: Path, target: Path) -> bool:
        """The bytes are under the name, and young; whether the content was there before, and may be on its way out.

        A second name for known content is a link where links work; the names of a content are then of one age.
        """
        try:
            os.utime(target)
            return True
        except FileNotFoundError:
            pass
        except (
            PermissionError
        ):  # another account's file; where the folder is its own, too, the bytes are there at least
            with suppress(PermissionError):
                self._copy(incoming, target)
            return True
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            sibling = next((path for path in target.parent.iterdir() if path.is_file()), None)
            if sibling is not None and _is_linked(sibling, target):
                os.utime(target)
            elif not _is_linked(incoming, target):
                self._copy(incoming, target)
            _sync(target.parent)
        except FileNotFoundError:
            return True  # cleared away under our hands
        return sibling is not None

    def _copy(self, incoming: Path, target: Path) -> None:
        """A file of its own under the name; `incoming` stays, as it may be needed again."""
        descriptor, name = tempfile.mkstemp(dir=self._incoming)
        os.close(descriptor)
        copy = Path(name)
        try:
            shutil.copy(incoming, copy)
            _sync(copy)
            copy.replace(target)
        finally:
            copy.unlink(missing_ok=True)


def content_hash_of(source: "str | Artifact | Mapping[str, Any]") -> str:
    """What `made_from` names an artifact by: its content hash, or the text as it is."""
    if isinstance(source, str):
        return source
    if isinstance(source, Artifact):
        return source.content_hash
    return uri_and_hash(source)[1]


def uri_and_hash(artifact: Artifact | Mapping[str, Any]) -> tuple[str, str]:
    """Where an artifact lies and what its bytes hash to.

    Raises:
        SkillError: ARTIFACT_INVALID.
    """
    if isinstance(artifact, Artifact):
        return artifact.uri, artifact.content_hash
    uri, content_hash = artifact.get("uri"), artifact.get("contentHash")
    if not isinstance(uri, str) or not isinstance(content_hash, str):
        raise SkillError("ARTIFACT_INVALID", "An artifact in the input lacks its uri or contentHash")
    return uri, content_hash


def check_filename(filename: str) -> None:
    """Return when it is one path component without control characters.

    Raises:
        ValueError: it is not.
    """
    is_component = filename not in ("", ".", "..") and not any(mark in "/\\\x7f" or mark < " " for mark in filename)
    if not is_component or len(filename.encode()) > 255:
        raise ValueError(f"a filename is one path component of at most 255 bytes, no control characters: {filename!r}")


def checked(data: bytes, content_hash: str) -> bytes:
    """The bytes, which have that hash.

    Raises:
        SkillError: ARTIFACT_CORRUPT.
    """
    if hashlib.sha256(data).hexdigest() != content_hash:
        raise SkillError("ARTIFACT_CORRUPT", "The artifact's bytes do not match its content hash")
    return data


def chunks_of(data: ArtifactData) -> Iterator[bytes | bytearray | memoryview]:
    """The bytes, those of a file in pieces of 1 MiB."""
    if not isinstance(data, Path):
        yield data
        return
    with data.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk


def _is_linked(source: Path, target: Path) -> bool:
    """Whether the file has this name too, or another process stored it there meanwhile."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return True
    except OSError:
        return False  # the file system has no hard links, or the file is gone
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
