"""Which content of the artifact store artifacts name, on PostgreSQL."""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql

_TASK = "artifact clean-up"

REMOVAL_S_MAX = 10.0
"""Of one content, while a transaction is open."""


class PostgresArtifactReferences:
    """ArtifactReferences on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def begin_pass(self, interval_s: float) -> bool:
        """See the port."""
        return bool(await self._database.fetchval(sql("housekeeping_begin"), _TASK, interval_s))

    async def mark_unreferenced(self, contents: Sequence[str]) -> int:
        """See the port."""
        return len(await self._database.fetch(sql("artifact_marks_add"), _digests(contents)))

    async def count_unreferenced(self, contents: Sequence[str]) -> int:
        """See the port."""
        count: int = await self._database.fetchval(sql("artifact_marks_count"), _digests(contents))
        return count

    async def marked(self, *, for_s: float, after: str, limit: int) -> Sequence[str]:
        """See the port."""
        rows = await self._database.fetch(sql("artifact_marks_list"), bytes.fromhex(after), for_s, limit)
        return [row["content_hash"].hex() for row in rows]

    async def release(self, content_hash: str, remove: Callable[[], Awaitable[int | None]]) -> int | None:
        """See the port."""
        digest = bytes.fromhex(content_hash)
        async with self._database.connection() as connection, connection.transaction():
            is_unreferenced = await connection.fetchval(sql("artifact_mark_lock"), digest)
            if is_unreferenced is None:
                return None
            size: int | None = None
            if is_unreferenced:
                with anyio.fail_after(REMOVAL_S_MAX):
                    size = await remove()
            await connection.execute(sql("artifact_mark_delete"), digest)
            return size


def _digests(contents: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(content_hash) for content_hash in contents]
