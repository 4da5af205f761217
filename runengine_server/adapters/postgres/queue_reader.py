"""Reads depth and age of the queue from PostgreSQL."""

from collections.abc import Sequence

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.postgres.step_queue import OVERDUE_GRACE_MS
from runengine_server.domain.ids import RunId, StepNo, Tenant, WorkflowDigest
from runengine_server.ports.queue_reader import QueuedStep, QueueGroup, QueueState

READY_STUCK_MS = 30_000
"""An engine with a free slot takes what is ready within its poll, half a second by default."""

_ROWS_MAX = 1_000_000
_GROUPS_MAX = 10_000


class PostgresQueueReader:
    """QueueReader: one pass over the rows of the queue, which are those of steps that have not ended."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def groups(self, tenant: Tenant | None) -> Sequence[QueueGroup]:
        """See the port."""
        rows = await self._database.fetch(
            sql("queue_count"), tenant, _ROWS_MAX, _GROUPS_MAX, READY_STUCK_MS, OVERDUE_GRACE_MS
        )
        return [
            QueueGroup(
                workflow_digest=None
                if row["workflow_digest"] is None
                else WorkflowDigest(row["workflow_digest"].hex()),
                step=None if row["step"] is None else StepNo(row["step"]),
                state=QueueState(row["state"]),
                is_stuck=row["is_stuck"],
                steps=row["steps"],
                oldest_ms=row["oldest_ms"],
            )
            for row in rows
        ]

    async def conspicuous(self, tenant: Tenant, limit: int) -> Sequence[QueuedStep]:
        """See the port."""
        rows = await self._database.fetch(sql("queue_list"), tenant, _ROWS_MAX, limit, READY_STUCK_MS, OVERDUE_GRACE_MS)
        return [
            QueuedStep(
                run_id=RunId(str(row["id"])),
                workflow_name=row["workflow_name"],
                workflow_digest=WorkflowDigest(row["workflow_digest"].hex()),
                step=StepNo(row["step"]),
                state=QueueState(row["state"]),
                attempt=row["attempt"],
                since=row["since"],
                next_attempt_at=row["next_attempt_at"],
            )
            for row in rows
        ]

    async def engines_alive(self) -> int:
        """See the port."""
        return int(await self._database.fetchval(sql("engines_count")))
