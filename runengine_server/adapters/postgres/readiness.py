"""Asks the database whether an engine can work with it."""

from collections.abc import Sequence

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.migrate import known_migrations
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.errors import UnavailableError


class DatabaseReadiness:
    """Says what is wrong with the database, in codes; bounded in time as every query is."""

    def __init__(self, database: Database) -> None:
        """Ask `database`."""
        self._database = database
        self._needed = frozenset(migration.version for migration in known_migrations())

    async def problems(self) -> Sequence[str]:
        """DATABASE_UNAVAILABLE, DATABASE_READ_ONLY or SCHEMA_OUTDATED; nothing where all is well."""
        try:
            row = await self._database.fetchrow(sql("schema_read"))
        except UnavailableError:
            return ["DATABASE_UNAVAILABLE"]
        assert row is not None, "a SELECT without FROM has a row"
        if row["is_read_only"]:
            return ["DATABASE_READ_ONLY"]
        return [] if self._needed <= set(row["versions"]) else ["SCHEMA_OUTDATED"]
