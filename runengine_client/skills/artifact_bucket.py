"""Keeps what skills publish in a bucket that speaks S3, each content once, addressed by its SHA-256."""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit

from runengine_client.skills.artifact_folder import (
    Artifact,
    ArtifactData,
    ReadableFolders,
    StoredArtifact,
    check_filename,
    checked,
    chunks_of,
    uri_and_hash,
)
from runengine_client.skills.artifact_layout import FRESH_S, REMOVAL_S_MAX, folder_of, marker_of
from runengine_client.skills.errors import SkillError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_MEMORY_BYTES_MAX = 8 << 20
"""Above this a file waits on disk until its hash, and so its place, is known."""

RETRIES_MAX = 3
_POLL_S = 0.1
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class ArtifactStoreUrlError(ValueError):
    """A text names no artifact store; the message says what one looks like."""


def open_bucket(url: str) -> "ObjectStore":
    """The bucket at `s3://bucket/prefix`; region, endpoint and credentials from the AWS_* variables.

    Raises:
        ArtifactStoreUrlError: the URL is none.
        ImportError: obstore is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.hostname or parts.netloc != parts.hostname or parts.query or parts.fragment:
        raise ArtifactStoreUrlError(f"{url!r} is no artifact store; write file:///directory or s3://bucket/prefix")
    try:
        from obstore.store import S3Store
    except ImportError:
        raise ImportError("an artifact store in a bucket needs obstore: pip install 'runengine[s3]'") from None
    return S3Store(
        parts.hostname,
        prefix=parts.path.strip("/") or None,
        client_options={
            "connect_timeout": "5s",
            "timeout": "20s",
            # Options given here take the place of those that obstore reads from the environment.
            "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes"),
        },
        retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=20)},
    )


class ArtifactBucket:
    """A content-addressed bucket: `<url>/sha256/ab/cdef…/<filename>`; safe for many processes at once."""

    def __init__(
        self,
        bucket: "ObjectStore",
        url: str,
        *,
        readable_roots: Sequence[str | os.PathLike[str]] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Store in the bucket.

        Args:
            bucket: as `open_bucket` gives it.
            url: what the URIs of artifacts begin with.
            readable_roots: folders that `read` may read from, too.
            sleep: waits so many seconds.
        """
        self._bucket = bucket
        self._url = url.rstrip("/")
        self._folders = ReadableFolders(readable_roots)
        self._sleep = sleep

    def store(self, data: ArtifactData, *, filename: str) -> StoredArtifact:
        """The bytes are in the bucket when this returns; equal content takes its space once.

        Args:
            data: the bytes, or the path of a file to copy.
            filename: one path component, at most 255 bytes; characters that are not plain are `_` in the URI.

        Atomic with: an upload; no reader ever sees a partial object.
        Idempotent by: content and filename.

        Raises:
            ValueError: the filename is not a single path component.
            SkillError: ARTIFACT_STORE_UNAVAILABLE, retryable.
        """
        check_filename(filename)
        with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES_MAX) as copy:
            digest = hashlib.sha256()
            for chunk in chunks_of(data):
                digest.update(chunk)
                copy.write(chunk)
            size = copy.tell()
            path = f"{folder_of(digest.hexdigest())}/{_UNSAFE.sub('_', filename)}"
            self._put(path, digest.hexdigest(), copy)  # type: ignore[arg-type]
        return StoredArtifact(uri=f"{self._url}/{path}", content_hash=digest.hexdigest(), size_bytes=size)

    def read(self, artifact: Artifact | Mapping[str, Any]) -> bytes:
        """The artifact's bytes, checked against its content hash.

        Raises:
            SkillError: ARTIFACT_INVALID, ARTIFACT_FORBIDDEN (outside the bucket and the readable folders),
                ARTIFACT_GONE or ARTIFACT_CORRUPT (its bytes are not those of its hash), none of them retryable;
                ARTIFACT_STORE_UNAVAILABLE, retryable.
        """
        import obstore

        uri, content_hash = uri_and_hash(artifact)
        if urlsplit(uri).scheme == "file":
            return self._folders.read(artifact)
        path = unquote(uri.removeprefix(f"{self._url}/"))
        if not uri.startswith(f"{self._url}/") or ".." in path.split("/"):
            raise SkillError("ARTIFACT_FORBIDDEN", "The artifact is outside the store and folders this runner may read")
        try:
            data = bytes(obstore.get(self._bucket, path).bytes())
        except FileNotFoundError:
            raise SkillError("ARTIFACT_GONE", "The artifact is not in the store any more") from None
        except obstore.exceptions.BaseError as error:
            raise _unavailable(error) from error
        return checked(data, content_hash)

    def _put(self, path: str, content_hash: str, data: BinaryIO) -> None:
        import obstore

        try:
            modified_at = self._modified_at(path)
            if modified_at is not None and (datetime.now(UTC) - modified_at).total_seconds() < FRESH_S:
                return
            waited_s = 0.0
            while True:
                data.seek(0)
                obstore.put(self._bucket, path, data)
                if modified_at is None:
                    return
                # It was old: perhaps it is being cleared away this moment.
                while waited_s < REMOVAL_S_MAX and self._modified_at(marker_of(content_hash)) is not None:
                    self._sleep(_POLL_S)
                    waited_s += _POLL_S
                if self._modified_at(path) is not None:
                    return
        except obstore.exceptions.BaseError as error:
            raise _unavailable(error) from error

    def _modified_at(self, path: str) -> datetime | None:
        import obstore

        try:
            return obstore.head(self._bucket, path)["last_modified"]
        except FileNotFoundError:
            return None


def _unavailable(error: Exception) -> SkillError:
    kind = type(error).__name__
    return SkillError("ARTIFACT_STORE_UNAVAILABLE", f"The artifact store did not answer: {kind}", retryable=True)
