"""Clearing the artifact store: what no artifact names goes after two looks, and nothing else ever does."""

import logging
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from runengine_client.skills import ArtifactFolder
from runengine_client.skills.artifact_folder import StoredArtifact
from runengine_server.adapters.artifacts.folder import FolderStore
from runengine_server.adapters.postgres.artifact_references import PostgresArtifactReferences
from runengine_server.adapters.postgres.database import PINNED_PLANS, Database, open_database
from runengine_server.domain.errors import PreconditionError, UnavailableError
from runengine_server.service.clean_artifacts import (
    CleanArtifacts,
    Cleaning,
    clean_artifacts,
    count_removable,
    keep_clean,
)

pytestmark = pytest.mark.anyio

AGE_S = 24 * 3600.0


class Clock:
    """The machine's."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        raise AssertionError("nothing is measured")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url, connections_max=8, settings=PINNED_PLANS) as connected:
        yield connected


@pytest.fixture
def folder(tmp_path: Path) -> ArtifactFolder:
    return ArtifactFolder(tmp_path)


@pytest.fixture
def cleaner(database: Database, folder: ArtifactFolder) -> CleanArtifacts:
    return CleanArtifacts(
        store=FolderStore(folder.root),
        references=PostgresArtifactReferences(database),
        clock=Clock(),
        installation_id="this one",
        age_s=AGE_S,
    )


def path_of(stored: StoredArtifact) -> Path:
    return Path(stored.uri.removeprefix("file://"))


def old(folder: ArtifactFolder, count: int = 1) -> list[StoredArtifact]:
    """Content that was published two days ago."""
    found = [folder.store(uuid.uuid4().bytes, filename="f.bin") for _ in range(count)]
    for stored in found:
        when = datetime.now(UTC).timestamp() - 2 * AGE_S
        os.utime(path_of(stored), (when, when))
    return found


async def refer(database: Database, stored: StoredArtifact, tenant: str = "acme") -> None:
    """An artifact names the content, as a committed step's does."""
    await database.fetch(
        "INSERT INTO artifacts (run, step, ordinal, tenant, content_hash, size_bytes, media_type, uri, filename,"
        " metadata, made_from, skill_id, skill_version)"
        " VALUES (nextval('run_key'), 0, 0, $1, $2, $3, 'x/y', $4, 'f.bin', '{}', '', 's', '1')",
        tenant,
        bytes.fromhex(stored.content_hash),
        stored.size_bytes,
        stored.uri,
    )


async def test_two_passes_remove_what_no_artifact_names(
    cleaner: CleanArtifacts, folder: ArtifactFolder, database: Database
) -> None:
    """The first pass marks, one an hour later removes; what is named, by whichever tenant, or young, stays."""
    [gone], [named], young = old(folder), old(folder), folder.store(b"young", filename="f.bin")
    await refer(database, named, "another tenant")
    assert await clean_artifacts(cleaner) == Cleaning(marked=1)
    assert await clean_artifacts(cleaner) == Cleaning(), "an hour is not over"
    assert await clean_artifacts(cleaner, marked_s=0) == Cleaning(removed=1, freed_bytes=16)
    assert [path_of(each).exists() for each in (gone, named, young)] == [False, True, True]
    assert not path_of(gone).parent.exists()
    assert await clean_artifacts(cleaner, marked_s=0) == Cleaning()
    assert await database.fetchval("SELECT count(*) FROM artifact_marks") == 0


async def test_a_dry_run_counts_and_changes_nothing(
    cleaner: CleanArtifacts, folder: ArtifactFolder, database: Database
) -> None:
    """What would go in the end is counted; nothing is marked or removed."""
    found = old(folder, 5)
    await refer(database, found[0])
    assert await count_removable(cleaner) == 4
    assert all(path_of(each).exists() for each in found)
    assert await database.fetchval("SELECT count(*) FROM artifact_marks") == 0


async def test_content_that_is_named_again_stays(
    cleaner: CleanArtifacts, folder: ArtifactFolder, database: Database
) -> None:
    """An artifact that appears between the passes saves its content, and the mark goes."""
    [stored] = old(folder)
    await clean_artifacts(cleaner)
    await refer(database, stored)
    assert await clean_artifacts(cleaner, marked_s=0) == Cleaning()
    assert path_of(stored).exists()
    assert await database.fetchval("SELECT count(*) FROM artifact_marks") == 0


async def test_content_that_is_published_again_stays(cleaner: CleanArtifacts, folder: ArtifactFolder) -> None:
    """Publishing makes marked content young, although no artifact names it yet: its attempt will commit one."""
    [stored] = old(folder)
    data = path_of(stored).read_bytes()
    await clean_artifacts(cleaner)
    folder.store(data, filename="f.bin")
    assert await clean_artifacts(cleaner, marked_s=0) == Cleaning(kept=1)
    assert path_of(stored).exists()


async def test_the_last_look_is_in_the_transaction_that_removes(
    cleaner: CleanArtifacts, folder: ArtifactFolder, database: Database
) -> None:
    """A reference that was committed after the content was listed is seen before it is removed."""
    [stored] = old(folder)
    references = cleaner.references
    await references.mark_unreferenced([stored.content_hash])
    assert await references.marked(for_s=0, after="", limit=10) == [stored.content_hash]
    await refer(database, stored)

    async def remove() -> int | None:
        raise AssertionError("it is named")

    assert await references.release(stored.content_hash, remove) is None
    assert path_of(stored).exists()


async def test_engines_at_once_remove_each_content_once(cleaner: CleanArtifacts, folder: ArtifactFolder) -> None:
    """Passes beside each other share the work, and count every content once."""
    found = old(folder, 40)
    await clean_artifacts(cleaner)
    passes: list[Cleaning] = []

    async def clean() -> None:
        passes.append(await clean_artifacts(cleaner, marked_s=0))

    async with anyio.create_task_group() as engines:
        for _ in range(3):
            engines.start_soon(clean)
    assert sum(each.removed for each in passes) >= 40
    assert sum(each.freed_bytes for each in passes) == 40 * 16
    assert not any(path_of(each).exists() for each in found)


async def test_a_pass_that_is_cut_short_is_finished_by_the_next(
    cleaner: CleanArtifacts, folder: ArtifactFolder, database: Database
) -> None:
    """A store that fails before or after the bytes went leaves the mark, so that the next pass goes on."""
    found = old(folder, 3)
    await clean_artifacts(cleaner)

    class Failing(FolderStore):
        removals = 0

        async def remove(self, content_hash: str, before: datetime) -> int | None:
            self.removals += 1
            if self.removals == 2:
                await super().remove(content_hash, before)
                raise UnavailableError("ARTIFACT_STORE_UNAVAILABLE", "gone away")
            return await super().remove(content_hash, before)

    with pytest.raises(UnavailableError):
        await clean_artifacts(replace(cleaner, store=Failing(folder.root)), marked_s=0)
    assert await database.fetchval("SELECT count(*) FROM artifact_marks") == 2
    assert (await clean_artifacts(cleaner, marked_s=0)).removed == 2
    assert not any(path_of(each).exists() for each in found)


async def test_another_databases_store_is_left_alone(cleaner: CleanArtifacts, folder: ArtifactFolder) -> None:
    """A store that another installation clears is refused: its references are not known here."""
    [stored] = old(folder)
    await clean_artifacts(cleaner)
    with pytest.raises(PreconditionError, match="another database"):
        await clean_artifacts(replace(cleaner, installation_id="another"), marked_s=0)
    assert path_of(stored).exists()


async def test_only_the_stores_own_layout_is_touched(cleaner: CleanArtifacts, folder: ArtifactFolder) -> None:
    """Whatever else lies in the folder stays, links included; half-written files of long ago go."""
    outside = folder.root.parent / f"{folder.root.name}-outside"
    (outside / ("c" * 62)).mkdir(parents=True)
    (outside / ("c" * 62) / "f").write_bytes(b"x")
    (folder.root / "sha256").mkdir()
    (folder.root / "sha256" / "ab").symlink_to(outside)
    others = [folder.root / "notes.txt", folder.root / "sha256" / "short", outside / ("c" * 62) / "f"]
    half = folder.root / "incoming" / "tmpabc"
    for path in (*others, half):
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    assert await clean_artifacts(cleaner) == Cleaning(unfinished=1)
    assert await clean_artifacts(cleaner, marked_s=0) == Cleaning()
    assert [path.exists() for path in (*others, half)] == [True, True, True, False]


async def test_one_engine_passes_at_a_time(cleaner: CleanArtifacts) -> None:
    """Who begins a pass keeps the others from one for the interval."""
    assert await cleaner.references.begin_pass(60)
    assert not await cleaner.references.begin_pass(60)


async def test_the_background_goes_on_whatever_happens(
    cleaner: CleanArtifacts, folder: ArtifactFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that is away, or fails in a way nobody thought of, is said to be, and passed over again."""
    caplog.set_level(logging.INFO, "runengine.artifacts")
    failures = [UnavailableError("ARTIFACT_STORE_UNAVAILABLE", "away"), ValueError("a defect")]

    class Unsteady(FolderStore):
        async def owner(self, claimant: str) -> str:
            if failures:
                raise failures.pop(0)
            scope.cancel()
            return claimant

    with anyio.fail_after(20), anyio.CancelScope() as scope:
        await keep_clean(replace(cleaner, store=Unsteady(folder.root)), interval_s=0.01)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "[RunEngine] Artifact store not cleaned: away"),
        ("ERROR", "[RunEngine] Artifact store not cleaned"),
    ]
