"""When steps were ready, began and ended, from what PostgreSQL keeps of them."""

from collections.abc import Sequence

import asyncpg

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.ports.step_queue import Lease
from runengine_server.ports.step_times import StepTimes, StoppedStep


class PostgresStepTimes:
    """StepTimesReader."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def settled(self, leases: Sequence[Lease]) -> Sequence[StepTimes | None]:
        """See the port."""
        runs, steps = [lease.run for lease in leases], [lease.step for lease in leases]
        epochs = [lease.epoch for lease in leases]
        rows = await self._database.fetch(sql("step_times_read"), runs, steps, epochs)
        return [None if row["leased_at"] is None else _times(row) for row in rows]

    async def stopped(self, run: RunKey, limit: int) -> Sequence[StoppedStep]:
        """See the port."""
        rows = await self._database.fetch(sql("stopped_steps_list"), run, limit)
        return [StoppedStep(step=StepNo(row["step"]), attempt=row["attempt"], times=_times(row)) for row in rows]


def _times(row: asyncpg.Record) -> StepTimes:
    return StepTimes(ready_at=row["ready_at"], leased_at=row["leased_at"], ended_at=row["ended_at"])
