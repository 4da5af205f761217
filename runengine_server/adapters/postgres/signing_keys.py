"""The keys that sign watch tokens, in PostgreSQL: made by whichever engine finds that there should be a new one."""

import secrets
from collections.abc import Sequence

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.ports.watch_tokens import SigningKey

PERIOD_S = 30 * 24 * 3600
"""So long a key signs. The one before stays valid meanwhile: far longer than any token is."""


class PostgresSigningKeys:
    """SigningKeys on PostgreSQL."""

    def __init__(self, database: Database, *, period_s: int = PERIOD_S) -> None:
        """Use connections of `database`; make a new key every `period_s` seconds."""
        self._database = database
        self._period_s = period_s

    async def read(self) -> Sequence[SigningKey]:
        """See the port."""
        rows = await self._database.fetch(sql("watch_keys_ensure"), secrets.token_bytes(32), self._period_s)
        return [SigningKey(number=row["key"], secret=row["secret"]) for row in rows]
