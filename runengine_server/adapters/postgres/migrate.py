"""Brings a database's schema up to date: forward only, one migrator at a time, each file checked to be unchanged."""

import hashlib
from dataclasses import dataclass
from importlib import resources

import asyncpg

_LOCK = 7_206_312_451  # advisory lock: any constant of our own
_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(Exception):
    """The schema cannot be brought up to date; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file of migrations/: `0001_tables.sql` is version 1, name `tables`."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Hex SHA-256 of the file's text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """The migrations this build ships, in order."""
    folder = resources.files("runengine_server.adapters.postgres") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(version=int(f.name[:4]), name=f.name[5:-4], sql=f.read_text(encoding="utf-8")) for f in files]


async def migrate(database_url: str) -> list[Migration]:
    """Apply what is missing, each migration in a transaction of its own; return what was applied.

    Idempotent by: the ledger table. Safe to run from many processes at once: an advisory lock admits one.

    Raises:
        MigrationError: an applied migration differs from the file of that number.
    """
    connection = await asyncpg.connect(database_url, timeout=10, command_timeout=600)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_LEDGER)
        applied = {row["version"]: row["checksum"] for row in await connection.fetch("SELECT * FROM schema_migrations")}
        done = []
        for migration in known_migrations():
            if migration.version in applied:
                _require_unchanged(migration, applied[migration.version])
                continue
            await _apply(connection, migration)
            done.append(migration)
        return done
    finally:
        await connection.close(timeout=10)


async def pending_migrations(connection: asyncpg.Connection) -> list[Migration]:
    """The migrations this build ships that the database does not have yet."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return known_migrations()
    applied = {row["version"] for row in await connection.fetch("SELECT version FROM schema_migrations")}
    return [m for m in known_migrations() if m.version not in applied]


def _require_unchanged(migration: Migration, checksum: str) -> None:
    if migration.checksum != checksum:
        raise MigrationError(
            f"migration {migration.version:04} {migration.name} was applied with other content: "
            "a released migration never changes; add a new one"
        )


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '10s'")
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
