"""Skill calls on PostgreSQL: a row before the runner is asked, so that its callback finds it from any engine."""

import hashlib
from collections.abc import Sequence
from uuid import UUID

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.ids import RunId
from runengine_server.ports.skill_calls import CallNews, OpenedCall, Verdict


class PostgresSkillCalls:
    """SkillCalls in the table that all engines share."""

    def __init__(self, database: Database) -> None:
        """Keep calls in this database."""
        self._database = database

    async def register(
        self, call_id: UUID, run_id: RunId, *, fencing_token: int, secret: str, kept_s: float
    ) -> OpenedCall | None:
        """See the port."""
        row = await self._database.fetchrow(sql("skill_call_register"), call_id, run_id, fencing_token, secret, kept_s)
        return None if row is None else OpenedCall(secret=row["secret"], answer=row["answer"])

    async def hear(
        self, call_id: UUID, secret: str, *, fencing_token: int, progress: bytes | None, answer: bytes | None,
        is_success: bool = False,
    ) -> Verdict:  # fmt: skip
        """See the port."""
        digest = hashlib.sha256(secret.encode()).digest()
        verdict = await self._database.fetchval(
            sql("skill_call_update"), call_id, digest, fencing_token, progress, is_success, answer
        )
        return Verdict(verdict)

    async def read(self, call_ids: Sequence[UUID]) -> Sequence[CallNews]:
        """See the port."""
        rows = await self._database.fetch(sql("skill_calls_read"), call_ids)
        return [CallNews(**row) for row in rows]

    async def release(self, calls: Sequence[tuple[UUID, int]]) -> None:
        """See the port."""
        ordered = sorted(calls)
        await self._database.fetch(
            sql("skill_calls_release"), [call_id for call_id, _ in ordered], [token for _, token in ordered]
        )

    async def sweep(self) -> int:
        """See the port."""
        return len(await self._database.fetch(sql("skill_calls_sweep")))
