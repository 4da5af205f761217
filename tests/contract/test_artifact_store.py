"""What every artifact store must do for who publishes, who reads and who clears: a folder, a bucket, one over S3."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import obstore
import pytest
from obstore.store import MemoryStore

from runengine_client.skills import SkillError
from runengine_client.skills.artifact_bucket import ArtifactBucket, ArtifactStoreUrlError, open_bucket
from runengine_client.skills.artifact_folder import ArtifactFolder, ArtifactStore, StoredArtifact
from runengine_client.skills.artifact_layout import folder_of, marker_of
from runengine_client.skills.artifact_place import open_artifact_store
from runengine_server.adapters.artifacts import open_artifacts
from runengine_server.adapters.artifacts.bucket import BucketStore
from runengine_server.adapters.artifacts.folder import FolderStore
from runengine_server.adapters.artifacts.reader import RootedArtifactReader
from runengine_server.adapters.artifacts.roots import parse_roots
from runengine_server.domain.errors import NotFoundError, UnavailableError
from runengine_server.ports.artifact_store import ArtifactBytes, ArtifactReader, BytesElsewhere
from runengine_server.ports.artifact_store import ArtifactStore as ClearedStore

from ..support.bucket_server import bucket_server, use_bucket_server

pytestmark = pytest.mark.anyio

URL = "s3://bucket/prefix"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A store as skills see it, as readers do and as the clean-up does; how it is changed behind their backs."""

    publisher: Callable[[Callable[[float], None]], ArtifactStore]
    reader: ArtifactReader
    cleared: ClearedStore
    write: Callable[[str], None]
    delete: Callable[[str], None]

    def store(self, data: bytes, filename: str = "f.bin") -> StoredArtifact:
        return self.publisher(_never).store(data, filename=filename)


def _never(seconds: float) -> None:
    raise AssertionError("nobody clears anything, so nobody waits")


@pytest.fixture(scope="session")
def bucket_url() -> Iterator[str]:
    with bucket_server() as url:
        yield url


@pytest.fixture(params=["folder", "memory", "s3"])
def subject(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """Each kind of store; publishing over buckets makes content young however young it is."""
    monkeypatch.setattr("runengine_client.skills.artifact_bucket.FRESH_S", -1)
    if request.param == "folder":
        return _folder_subject(tmp_path / "store")
    bucket, url = MemoryStore(), URL
    if request.param == "s3":
        url = f"{use_bucket_server(request.getfixturevalue('bucket_url'), monkeypatch)}/{tmp_path.name}"
        bucket = open_bucket(url)
    cleared = BucketStore(bucket, url)
    return Subject(
        publisher=lambda sleep: ArtifactBucket(bucket, url, sleep=sleep),
        reader=RootedArtifactReader([], cleared),
        cleared=cleared,
        write=lambda path: _ignored(obstore.put(bucket, path, b"")),
        delete=lambda path: obstore.delete(bucket, path),
    )


def _folder_subject(root: Path) -> Subject:
    def write(path: str) -> None:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"")

    return Subject(
        publisher=lambda sleep: ArtifactFolder(root, sleep=sleep),
        reader=RootedArtifactReader(parse_roots(root.as_uri())),
        cleared=FolderStore(root),
        write=write,
        delete=lambda path: (root / path).unlink(),
    )


def _ignored(answer: object) -> None:
    """Nothing."""


async def _bytes(found: ArtifactBytes | BytesElsewhere | None, start: int, end: int) -> bytes:
    assert found is not None
    assert not isinstance(found, BytesElsewhere)
    return b"".join([chunk async for chunk in found.chunks(start, end)])


def _soon() -> datetime:
    """A moment that everything published so far is older than, however coarse a store's clock is."""
    return datetime.now(UTC) + timedelta(seconds=5)


async def _old(subject: Subject, before: datetime) -> set[str]:
    return {each async for batch in subject.cleared.old_contents(before) for each in batch}


async def test_what_is_published_can_be_opened(subject: Subject) -> None:
    """Its URI leads to its bytes, whole and in parts, and a skill reads it back, checked."""
    data = os.urandom(700_000)
    stored = subject.store(data, "a b%ü.bin")
    found = await subject.reader.find(stored.uri)
    assert found is not None
    assert not isinstance(found, BytesElsewhere)
    assert found.size_bytes == len(data) == stored.size_bytes
    assert await _bytes(found, 0, len(data)) == data
    assert await _bytes(found, 3, 600_001) == data[3:600_001]
    assert await _bytes(found, 5, 5) == b""
    given = {"uri": stored.uri, "contentHash": stored.content_hash}
    assert subject.publisher(_never).read(given) == data
    assert hashlib.sha256(data).hexdigest() == stored.content_hash
    assert folder_of(stored.content_hash) in stored.uri


async def test_nothing_and_empty(subject: Subject) -> None:
    """No bytes are content like any other; what was never published is not there, and others' places are not ours."""
    stored = subject.store(b"")
    found = await subject.reader.find(stored.uri)
    assert found is not None
    assert await _bytes(found, 0, 0) == b""
    assert await subject.reader.find(f"{stored.uri}.other") is None
    for uri in ("s3://bucket/other/x", "file:///etc/passwd", "http://h/x", "nonsense", f"{stored.uri}/../../../../x"):
        with pytest.raises(NotFoundError) as refused:
            await subject.reader.find(uri)
        assert refused.value.reason == "ARTIFACT_OUT_OF_REACH"
    with pytest.raises(SkillError) as forbidden:
        subject.publisher(_never).read({"uri": "s3://bucket/other/x", "contentHash": "0"})
    assert forbidden.value.code == "ARTIFACT_FORBIDDEN"


async def test_old_content_is_removed_with_all_its_names(subject: Subject) -> None:
    """What is older than a moment is listed once and goes whole; again, nothing happens."""
    stored, other = subject.store(b"one", "a.txt"), subject.store(b"two")
    subject.store(b"one", "b.txt")
    assert await _old(subject, _soon()) == {stored.content_hash, other.content_hash}
    assert await _old(subject, datetime.now(UTC) - timedelta(hours=1)) == set()
    freed = await subject.cleared.remove(stored.content_hash, _soon())
    assert freed in (3, 6), "names are links in a folder, objects of their own in a bucket"
    assert await subject.reader.find(stored.uri) is None
    assert await subject.cleared.remove(stored.content_hash, _soon()) == 0
    assert await _old(subject, _soon()) == {other.content_hash}
    with pytest.raises(SkillError) as gone:
        subject.publisher(_never).read({"uri": stored.uri, "contentHash": stored.content_hash})
    assert gone.value.code == "ARTIFACT_GONE"


async def test_young_content_stays(subject: Subject) -> None:
    """What was published since the moment is not removed."""
    stored = subject.store(b"young")
    assert await subject.cleared.remove(stored.content_hash, datetime.now(UTC) - timedelta(hours=1)) is None
    assert await subject.reader.find(stored.uri) is not None


async def test_who_publishes_during_a_removal_stores_again(subject: Subject) -> None:
    """Content that goes while it is published a second time is there when publishing returns."""
    stored = subject.store(b"wanted", "f.bin")
    marker = marker_of(stored.content_hash)
    path = f"{folder_of(stored.content_hash)}/f.bin"
    subject.write(marker)
    waits: list[float] = []

    def removal_goes_on(seconds: float) -> None:
        waits.append(seconds)
        subject.delete(path)
        subject.delete(marker)

    again = subject.publisher(removal_goes_on).store(b"wanted", filename="f.bin")
    assert len(waits) == 1
    assert again == stored
    assert await _bytes(await subject.reader.find(stored.uri), 0, 6) == b"wanted"


async def test_a_marker_left_behind_is_waited_for_once(subject: Subject) -> None:
    """Whoever died while removing delays who publishes that content, by a bounded time, and is cleared away later."""
    stored = subject.store(b"wanted")
    subject.write(marker_of(stored.content_hash))
    waited: list[float] = []
    assert subject.publisher(waited.append).store(b"wanted", filename="f.bin") == stored
    assert 29 < sum(waited) < 32
    assert await subject.cleared.remove_unfinished(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await subject.cleared.remove_unfinished(_soon()) == 1
    assert subject.store(b"wanted") == stored


async def test_publishing_and_removing_at_once(subject: Subject) -> None:
    """However both interleave, content that was published is there afterwards."""
    removed = 0
    rounds = 3 if isinstance(subject.cleared, BucketStore) and "some" in subject.store(b"").uri else 25
    for number in range(rounds):
        data = f"content {number}".encode()
        stored = subject.store(data)
        before = await _after(subject, stored)
        publisher = subject.publisher(time.sleep)
        async with anyio.create_task_group() as both:
            both.start_soon(anyio.to_thread.run_sync, partial(publisher.store, data, filename="f.bin"))
            removed += await subject.cleared.remove(stored.content_hash, before) is not None
        assert await subject.reader.find(stored.uri) is not None
    assert removed or rounds < 25, "it never came to a removal: this shows nothing"


async def _after(subject: Subject, stored: StoredArtifact) -> datetime:
    """A moment between a publishing and the next: made by ageing files, or waited for by the store's own clock."""
    if isinstance(subject.cleared, FolderStore):
        path = Path(stored.uri.removeprefix("file://"))
        os.utime(path, (1, 1))
        return datetime.now(UTC) - timedelta(hours=1)
    while True:  # S3 counts whole seconds
        now = datetime.now(UTC)
        if stored.content_hash in await _old(subject, now):
            return now
        await anyio.lowlevel.checkpoint()


async def test_the_first_to_ask_owns_the_store(subject: Subject) -> None:
    """One database's references count for a store: that of whoever asked first."""
    subject.store(b"makes the folder")
    assert await subject.cleared.owner("first") == "first"
    assert await subject.cleared.owner("second") == "first"
    assert await subject.cleared.owner("first") == "first"


async def test_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody there is UNAVAILABLE to readers and retryable to skills; a folder that is missing, too."""
    url = use_bucket_server("http://127.0.0.1:1", monkeypatch)
    monkeypatch.setattr("runengine_client.skills.artifact_bucket.RETRIES_MAX", 0)
    bucket = open_bucket(url)
    with pytest.raises(UnavailableError) as refused:
        await BucketStore(bucket, url).find(f"{url}/x")
    assert refused.value.reason == "ARTIFACT_STORE_UNAVAILABLE"
    with pytest.raises(SkillError) as failed:
        ArtifactBucket(bucket, url).store(b"x", filename="f")
    assert (failed.value.code, failed.value.retryable) == ("ARTIFACT_STORE_UNAVAILABLE", True)
    missing = tmp_path / "missing"
    with pytest.raises(UnavailableError):
        await RootedArtifactReader(parse_roots(missing.as_uri())).find(f"{missing.as_uri()}/x")


def test_where_artifacts_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder or a URL names the store; a folder beside a store is still read from."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    folder = open_artifact_store(artifact_dir=tmp_path / "a", artifact_store=None)
    stored = folder.store(b"kept", filename="f")
    assert isinstance(open_artifact_store(artifact_dir=None, artifact_store=(tmp_path / "b").as_uri()), ArtifactFolder)
    bucket = open_artifact_store(artifact_dir=tmp_path / "a", artifact_store="s3://bucket/prefix")
    assert isinstance(bucket, ArtifactBucket)
    assert bucket.read({"uri": stored.uri, "contentHash": stored.content_hash}) == b"kept"
    with pytest.raises(ValueError, match="artifact_dir or artifact_store"):
        open_artifact_store(artifact_dir=None, artifact_store=None)
    for url in ("gs://b", "s3://", "s3://user@b/x", "s3://b/x?y", "/tmp/x", "file://host/x"):
        with pytest.raises(ArtifactStoreUrlError, match="no artifact store"):
            open_artifact_store(artifact_dir=None, artifact_store=url)


def test_what_the_operator_may_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the server name the same stores."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert isinstance(open_artifacts("", tmp_path.as_uri(), _Clock()).store, FolderStore)
    assert isinstance(open_artifacts("", "s3://bucket/prefix", _Clock()).store, BucketStore)
    nothing = open_artifacts("", "", _Clock())
    assert (nothing.store, nothing.has_roots) == (None, False)


class _Clock:
    """Stands still."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return 0.0
