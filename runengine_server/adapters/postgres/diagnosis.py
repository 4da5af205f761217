"""What there is to know about a PostgreSQL server before an engine relies on it; changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import asyncpg

from runengine_server.adapters.postgres.database_check import CONNECT_TIMEOUT_S, one_line_errors
from runengine_server.adapters.postgres.migrate import known_migrations
from runengine_server.adapters.postgres.queries import sql

VERSIONS: Final = range(15, 19)
"""Those that are tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """A server that answered.

    Attributes:
        version: as it names itself; `major` is the first number of it.
        clock_ahead: of the server's clock, compared with this machine's.
        uncertain: by how much `clock_ahead` may be wrong: half of the round trip.
        migrations_missing: of this build, by number and name.
        migrations_changed: applied with other content than this build's.
        migrations_newer: numbers that this build does not know.
        privileges_lacking: by table; empty without a schema.
    """

    version: str
    major: int
    is_replica: bool
    has_fsync: bool
    has_full_page_writes: bool
    synchronous_commit: str
    connections_max: int
    connections: int
    clock_ahead: timedelta
    uncertain: timedelta
    migrations_missing: Sequence[str]
    migrations_changed: Sequence[str]
    migrations_newer: Sequence[int]
    privileges_lacking: Mapping[str, Sequence[str]]


async def read_database_facts(url: str, variable: str = "DATABASE_URL") -> DatabaseFacts:
    """What the server says of itself and of the schema.

    Raises:
        DatabaseUrlError: the URL cannot be used.
        DatabaseUnusableError: no connection, or a question is refused.
    """
    with one_line_errors(url, variable):
        connection = await asyncpg.connect(
            url, timeout=CONNECT_TIMEOUT_S, command_timeout=CONNECT_TIMEOUT_S, statement_cache_size=0
        )
        try:
            return await _facts(connection)
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _facts(connection: asyncpg.Connection) -> DatabaseFacts:
    await connection.fetchrow(sql("server_facts_read"))  # the first time pays for parsing; the second tells the time
    asked_at, began = datetime.now(UTC), monotonic()
    server = await connection.fetchrow(sql("server_facts_read"))
    assert server is not None, "a SELECT without FROM answers a row"
    half = timedelta(seconds=(monotonic() - began) / 2)
    has_schema = await connection.fetchval("SELECT to_regclass('schema_migrations')") is not None
    applied = {}
    lacking: dict[str, list[str]] = {}
    if has_schema:
        rows = await connection.fetch("SELECT version, checksum FROM schema_migrations")
        applied = {row["version"]: row["checksum"] for row in rows}
        for row in await connection.fetch(sql("privileges_lacking_list")):
            lacking.setdefault(row["table_name"], []).append(row["privilege"])
    known = {migration.version: migration for migration in known_migrations()}
    return DatabaseFacts(
        version=server["version"],
        major=server["version_number"] // 10_000,
        is_replica=server["is_replica"],
        has_fsync=server["has_fsync"],
        has_full_page_writes=server["has_full_page_writes"],
        synchronous_commit=server["synchronous_commit"],
        connections_max=server["connections_max"],
        connections=server["connections"],
        clock_ahead=server["clock"] - (asked_at + half),
        uncertain=half,
        migrations_missing=[f"{each.version:04} {each.name}" for each in known.values() if each.version not in applied],
        migrations_changed=[
            f"{each.version:04} {each.name}"
            for each in known.values()
            if each.version in applied and applied[each.version] != each.checksum
        ],
        migrations_newer=sorted(applied.keys() - known.keys()),
        privileges_lacking=lacking,
    )
