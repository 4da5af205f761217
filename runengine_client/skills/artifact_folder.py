"""Keeps what skills publish in a local folder, each content once, addressed by its SHA-256."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from runengine_client.skills.errors import SkillError

_CHUNK_BYTES = 1 << 20


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
class StoredFile:
    """Bytes that are in the folder."""

    path: Path
    content_hash: str
    size_bytes: int

    @property
    def uri(self) -> str:
        """The file's `file://` address."""
        return self.path.as_uri()


class ArtifactFolder:
    """A content-addressed folder: `<root>/sha256/ab/cdef…/<filename>`; safe for many processes at once."""

    def __init__(self, root: str | os.PathLike[str], *, readable_roots: Sequence[str | os.PathLike[str]] = ()) -> None:
        """Make the folder if it is not there.

        Args:
            root: where to store.
            readable_roots: further folders that `read` may read from, such as another skill server's.
        """
        self.root = Path(root).resolve()
        self._incoming = self.root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._readable_roots = (self.root, *(Path(other).resolve() for other in readable_roots))

    def store(self, data: bytes | bytearray | memoryview | Path, *, filename: str) -> StoredFile:
        """The bytes are durable under the filename when this returns; equal content takes its space once.

        Args:
            data: the bytes, or the path of a file to copy.
            filename: one path component, at most 255 bytes.

        Atomic with: a rename; no reader ever sees a partial file.
        Idempotent by: content and filename.

        Raises:
            ValueError: the filename is not a single path component.
        """
        _check_filename(filename)
        incoming = self._write_incoming(data)
        try:
            folder = self.root / "sha256" / incoming.content_hash[:2] / incoming.content_hash[2:]
            target = folder / filename
            if not target.exists():
                folder.mkdir(parents=True, exist_ok=True)
                self._place(incoming.path, target)
        finally:
            incoming.path.unlink(missing_ok=True)
        return StoredFile(path=target, content_hash=incoming.content_hash, size_bytes=incoming.size_bytes)

    def read(self, artifact: Artifact | Mapping[str, Any]) -> bytes:
        """The artifact's bytes, checked against its content hash.

        Raises:
            SkillError: ARTIFACT_INVALID, ARTIFACT_FORBIDDEN (outside the readable folders), ARTIFACT_GONE or
                ARTIFACT_CORRUPT (its bytes are not those of its hash); none is retryable.
        """
        uri, content_hash = _uri_and_hash(artifact)
        path = self._readable_path(uri)
        try:
            data = path.read_bytes()
        except OSError:
            raise SkillError("ARTIFACT_GONE", "The artifact's file cannot be read any more") from None
        if hashlib.sha256(data).hexdigest() != content_hash:
            raise SkillError("ARTIFACT_CORRUPT", "The artifact's bytes do not match its content hash")
        return data

    def _readable_path(self, uri: str) -> Path:
        parts = urlsplit(uri)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise SkillError("ARTIFACT_FORBIDDEN", "This runner reads artifacts of local folders only")
        path = Path(unquote(parts.path)).resolve()
        if not any(path.is_relative_to(root) for root in self._readable_roots):
            raise SkillError("ARTIFACT_FORBIDDEN", "The artifact is outside the folders this runner may read")
        return path

    def _write_incoming(self, data: bytes | bytearray | memoryview | Path) -> StoredFile:
        digest = hashlib.sha256()
        size = 0
        descriptor, name = tempfile.mkstemp(dir=self._incoming)
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as out:
                for chunk in _chunks(data):
                    digest.update(chunk)
                    out.write(chunk)
                    size += len(chunk)
                out.flush()
                os.fchmod(out.fileno(), 0o644)
                os.fsync(out.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return StoredFile(path=path, content_hash=digest.hexdigest(), size_bytes=size)

    def _place(self, incoming: Path, target: Path) -> None:
        """Put the file under its name; a second name for known content becomes a link where links work."""
        sibling = next((path for path in target.parent.iterdir() if path.is_file()), None)
        if sibling is None or not _is_linked(sibling, target):
            incoming.replace(target)
        _sync_folder(target.parent)


def content_hash_of(source: "str | Artifact | Mapping[str, Any]") -> str:
    """What `made_from` names an artifact by: its content hash, or the text as it is."""
    if isinstance(source, str):
        return source
    if isinstance(source, Artifact):
        return source.content_hash
    return _uri_and_hash(source)[1]


def _uri_and_hash(artifact: Artifact | Mapping[str, Any]) -> tuple[str, str]:
    if isinstance(artifact, Artifact):
        return artifact.uri, artifact.content_hash
    uri, content_hash = artifact.get("uri"), artifact.get("contentHash")
    if not isinstance(uri, str) or not isinstance(content_hash, str):
        raise SkillError("ARTIFACT_INVALID", "An artifact in the input lacks its uri or contentHash")
    return uri, content_hash


def _check_filename(filename: str) -> None:
    is_component = filename not in ("", ".", "..") and not any(mark in filename for mark in ("/", "\\", "\0"))
    if not is_component or len(filename.encode()) > 255:
        raise ValueError(f"a filename is one path component of at most 255 bytes: {filename!r}")


def _chunks(data: bytes | bytearray | memoryview | Path) -> Iterator[bytes | bytearray | memoryview]:
    if not isinstance(data, Path):
        yield data
        return
    with data.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk


def _is_linked(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return True  # another process stored the same name meanwhile
    except OSError:
        return False  # the file system has no hard links
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
