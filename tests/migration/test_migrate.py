"""Bringing a schema up to date: from nothing, again, at the same time, and never over something that was changed."""

import os
from collections.abc import Iterator
from dataclasses import replace

import anyio
import asyncpg
import pytest

from runengine_server.adapters.postgres import migrate as migrate_module
from runengine_server.adapters.postgres.migrate import (
    Migration,
    MigrationError,
    known_migrations,
    migrate,
    pending_migrations,
)

from ..conftest import Stack
from ..support.databases import with_database

pytestmark = pytest.mark.anyio


@pytest.fixture
def empty_url(stack: Stack) -> Iterator[str]:
    """A database without anything in it, of this test's own."""
    name = f"migration_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    anyio.run(_execute, stack.database_url, f'CREATE DATABASE "{name}"')
    try:
        yield with_database(stack.database_url, name)
    finally:
        anyio.run(_execute, stack.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def test_from_empty_and_again(empty_url: str) -> None:
    """The first call applies every migration in order, the second none; the ledger says what was applied."""
    known = known_migrations()
    assert await _pending(empty_url) == known
    assert await migrate(empty_url) == known
    assert await migrate(empty_url) == []
    assert await _pending(empty_url) == []
    assert await _fetch(empty_url, "SELECT version, name, checksum FROM schema_migrations ORDER BY version") == [
        (migration.version, migration.name, migration.checksum) for migration in known
    ]


async def test_three_at_once(empty_url: str) -> None:
    """Of migrators that start together one applies, the others wait and find nothing to do."""
    applied: list[int] = []

    async def run() -> None:
        applied.append(len(await migrate(empty_url)))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(run)
    assert sorted(applied) == [0, 0, len(known_migrations())]


async def test_a_changed_file_is_refused(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that was applied with other content stops everything, also what comes after it."""
    await migrate(empty_url)
    first, *rest = known_migrations()
    changed = [replace(first, sql=first.sql + "\n-- harmless"), *rest, _new("CREATE TABLE never ()")]
    monkeypatch.setattr(migrate_module, "known_migrations", lambda: changed)
    with pytest.raises(MigrationError, match="0001 tables was applied with other content"):
        await migrate(empty_url)
    assert await _fetch(empty_url, "SELECT to_regclass('never')") == [(None,)]


async def test_a_newer_database_is_left_alone(empty_url: str) -> None:
    """A build that meets migrations it does not know, as during a rolling update, goes on and changes nothing."""
    await migrate(empty_url)
    await _execute(empty_url, "INSERT INTO schema_migrations VALUES (9999, 'of_the_future', 'x')")
    assert await migrate(empty_url) == []
    assert await _pending(empty_url) == []


async def test_a_failed_migration_leaves_nothing_half_done(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails is rolled back whole; what came before it stays, and it is tried again next time."""
    broken = [*known_migrations(), _new("CREATE TABLE half (); SELECT 1 / 0")]
    monkeypatch.setattr(migrate_module, "known_migrations", lambda: broken)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_url)
    assert await _fetch(empty_url, "SELECT to_regclass('half')") == [(None,)]
    assert await _pending(empty_url) == broken[-1:]
    repaired = [*broken[:-1], _new("CREATE TABLE half ()")]
    monkeypatch.setattr(migrate_module, "known_migrations", lambda: repaired)
    assert await migrate(empty_url) == repaired[-1:]


def test_files_are_numbered_without_gaps() -> None:
    """Versions are 1, 2, 3 …, each named; a checksum is that of the text."""
    known = known_migrations()
    assert [migration.version for migration in known] == list(range(1, len(known) + 1))
    assert all(migration.name.isidentifier() for migration in known)
    assert len({migration.checksum for migration in known}) == len(known)


def _new(statements: str) -> Migration:
    return Migration(version=known_migrations()[-1].version + 1, name="new", sql=statements)


async def _pending(url: str) -> list[Migration]:
    connection = await asyncpg.connect(url)
    try:
        return await pending_migrations(connection)
    finally:
        await connection.close()


async def _fetch(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
