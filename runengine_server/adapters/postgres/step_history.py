"""What explanations ask of a run's steps and of the runs before it, on PostgreSQL."""

from collections.abc import Mapping, Sequence

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.postgres.rows import run_id
from runengine_server.domain.ids import RunId, RunKey, StepNo, WorkflowDigest
from runengine_server.domain.states import OutputSource, StepStatus
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.ports.step_history import EarlierStep, MissedStep, StepOutcome

# A miss costs a probe of each: about 0.3 ms together. Newer runs count too, for one may have overtaken the other.
NEWER_RUNS_MAX = 30
OLDER_RUNS_MAX = 120

_NO_SUCH_STEP = -1


class PostgresStepHistory:
    """StepHistory on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def outcomes(self, run: RunKey, steps: Sequence[StepNo]) -> Mapping[StepNo, StepOutcome]:
        """See the port."""
        found = await self._database.fetch(sql("step_outcomes_list"), run, steps)
        return {
            StepNo(row["step"]): StepOutcome(
                status=StepStatus(row["status"]),
                source=None if row["source"] is None else OutputSource(row["source"]),
                source_run_id=run_id(row["producer_id"]),
                input_hash=_hex(row["input_hash"]),
                output_hash=_hex(row["output_hash"]),
                cache_version=row["cache_version"] or "",
                is_held=row["is_held"],
            )
            for row in found
        }

    async def neighbours(self, run: RunIdentity, workflow_name: str) -> Sequence[RunIdentity]:
        """See the port."""
        found = await self._database.fetch(
            sql("run_neighbours_list"), run.tenant, workflow_name, run.key, NEWER_RUNS_MAX, OLDER_RUNS_MAX
        )
        return [
            RunIdentity(
                key=RunKey(row["run"]),
                run_id=RunId(str(row["id"])),
                tenant=run.tenant,
                workflow_digest=WorkflowDigest(row["workflow_digest"].hex()),
            )
            for row in found
        ]

    async def nearest_successes(
        self, missed: Sequence[MissedStep], runs: Sequence[RunIdentity], numbers: Sequence[Sequence[StepNo | None]]
    ) -> Sequence[EarlierStep | None]:
        """See the port."""
        nearest: list[EarlierStep | None] = [None] * len(missed)
        if not missed or not runs:
            return nearest
        found = await self._database.fetch(
            sql("step_nearest_find"),
            [step.started_at for step in missed],
            [bytes.fromhex(step.input_hash) for step in missed],
            [run.key for run in runs],
            [_NO_SUCH_STEP if number is None else number for of_run in numbers for number in of_run],
        )
        for row in found:
            nearest[row["n"] - 1] = EarlierStep(run=runs[row["place"] - 1], step=StepNo(row["step"]))
        return nearest


def _hex(value: bytes | None) -> str:
    return "" if value is None else value.hex()
