"""The artifact store in a bucket that speaks S3: opened, listed and cleared through obstore."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

import obstore

from runengine_client.skills.artifact_layout import CONTENTS, REMOVING, content_hash_of_folder, folder_of, marker_of
from runengine_server.adapters.artifacts.errors import bytes_gone, out_of_reach, store_unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

OWNER = "owner"
_CHUNK_BYTES = 256 * 1024
_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectBytes:
    """ArtifactBytes in an object."""

    bucket: "ObjectStore"
    path: str
    size_bytes: int

    async def chunks(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """See the port."""
        if start >= end:
            return
        with _store_errors():
            try:
                answer = await obstore.get_async(self.bucket, self.path, options={"range": (start, end)})
            except FileNotFoundError:
                raise bytes_gone() from None
            async for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)


class BucketStore:
    """ArtifactStore in a bucket."""

    def __init__(self, bucket: "ObjectStore", url: str) -> None:
        """Use the bucket; `url` is what the URIs of its artifacts begin with."""
        self._bucket = bucket
        self._url = url.rstrip("/")

    def holds(self, uri: str) -> bool:
        """True when the URI lies below the store's URL, as written and as a server would read it."""
        segments = unquote(uri.removeprefix(self._url)).split("/")
        return uri.startswith(f"{self._url}/") and not any(part in (".", "..") or "\0" in part for part in segments)

    async def find(self, uri: str) -> ObjectBytes | None:
        """The bytes of the object that a URI names; None when there is none.

        Raises:
            NotFoundError: ARTIFACT_OUT_OF_REACH, it can be no object's name.
            UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
        """
        path = unquote(uri.removeprefix(f"{self._url}/"))
        with _store_errors():
            try:
                meta = await obstore.head_async(self._bucket, path)
            except FileNotFoundError:
                return None
            except obstore.exceptions.InvalidPathError:
                raise out_of_reach() from None
        return ObjectBytes(bucket=self._bucket, path=path, size_bytes=meta["size"])

    def is_gone(self, uri: str) -> bool:
        """Whether the object that a URI names is certainly not there; blocks.

        Raises:
            UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
        """
        with _store_errors():
            try:
                obstore.head(self._bucket, unquote(uri.removeprefix(f"{self._url}/")))
            except FileNotFoundError:
                return True
            except obstore.exceptions.InvalidPathError:
                pass
        return False

    async def old_contents(self, before: datetime) -> AsyncIterator[Sequence[str]]:
        """See the port."""
        newest: dict[str, datetime] = {}
        with _store_errors():
            async for metas in obstore.list(self._bucket, prefix=CONTENTS, chunk_size=_BATCH):
                for meta in metas:
                    content_hash = content_hash_of_folder(meta["path"])
                    if content_hash is not None:
                        at = meta["last_modified"]
                        newest[content_hash] = max(at, newest.get(content_hash, at))
                # Names of a content are neighbours in the order of a listing: all but the last are complete.
                last = next(reversed(newest), None)
                done = [each for each, at in newest.items() if each != last and at < before]
                newest = {} if last is None else {last: newest[last]}
                if done:
                    yield done
        done = [each for each, at in newest.items() if at < before]
        if done:
            yield done

    async def remove(self, content_hash: str, before: datetime) -> int | None:
        """See the port."""
        with _store_errors():
            marker = marker_of(content_hash)
            await obstore.put_async(self._bucket, marker, b"")
            try:
                metas = [
                    meta async for batch in obstore.list(self._bucket, prefix=folder_of(content_hash)) for meta in batch
                ]
                if any(meta["last_modified"] >= before for meta in metas):
                    return None
                await obstore.delete_async(self._bucket, [meta["path"] for meta in metas])
                return sum(meta["size"] for meta in metas)
            finally:
                await obstore.delete_async(self._bucket, [marker])

    async def remove_unfinished(self, before: datetime) -> int:
        """See the port; of uploads that were broken off buckets themselves know, and have rules for them."""
        count = 0
        with _store_errors():
            async for metas in obstore.list(self._bucket, prefix=REMOVING, chunk_size=_BATCH):
                old = [meta["path"] for meta in metas if meta["last_modified"] < before]
                if old:
                    await obstore.delete_async(self._bucket, old)
                count += len(old)
        return count

    async def owner(self, claimant: str) -> str:
        """See the port."""
        with _store_errors():
            try:
                await obstore.put_async(self._bucket, OWNER, claimant.encode(), mode="create")
                return claimant
            except obstore.exceptions.AlreadyExistsError:
                answer = await obstore.get_async(self._bucket, OWNER)
                return bytes(await answer.bytes_async()).decode()


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except (obstore.exceptions.BaseError, OSError) as error:
        raise store_unavailable() from error
