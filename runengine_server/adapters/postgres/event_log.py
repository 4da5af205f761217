"""The events of runs, read with what they refer to: errors, decisions, artifacts."""

from collections.abc import Collection, Mapping

import asyncpg

from runengine_server.adapters.postgres import rows
from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.artifact import Artifact
from runengine_server.domain.events import EventDetail, RunEvent, RunStatusChanged, StepStatusChanged
from runengine_server.domain.ids import RunKey
from runengine_server.domain.states import OutputSource, RunEventType, RunStatus, StepStatus
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.event_log import EventPage
from runengine_server.ports.run_reader import RunIdentity

_RUN_STATUS, _STEP_STATUS = int(RunEventType.RUN_STATUS), int(RunEventType.STEP_STATUS)


class PostgresEventLog:
    """EventLog on PostgreSQL; one round trip a page."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def read(self, run: RunIdentity, workflow: Workflow, *, after: int, limit: int) -> EventPage | None:
        """See the port."""
        found = await self._database.fetch(sql("events_read"), run.key, after, limit)
        if not found:
            return None
        return EventPage(
            events=tuple(_event(row, run, workflow) for row in found if row["sequence"] is not None),
            last_sequence=found[0]["last_sequence"],
            status=RunStatus(found[0]["run_status"]),
        )

    async def last_sequences(self, runs: Collection[RunKey]) -> Mapping[RunKey, int]:
        """See the port."""
        found = await self._database.fetch(sql("events_last_sequences"), list(runs))
        return {RunKey(row["run"]): row["last_sequence"] for row in found}


def _event(row: asyncpg.Record, run: RunIdentity, workflow: Workflow) -> RunEvent:
    kind = row["type"]
    if kind == _RUN_STATUS:
        return RunEvent(sequence=row["sequence"], occurred_at=row["occurred_at"], detail=_run_detail(row, workflow))
    detail: EventDetail
    if kind == _STEP_STATUS:
        detail, attempt = _step_detail(row, workflow)
    else:
        detail, attempt = _artifact_detail(row, run, workflow), row["attempt"] or 0
    return RunEvent(
        sequence=row["sequence"],
        occurred_at=row["occurred_at"],
        detail=detail,
        step_id=workflow.steps[row["step"]].step_id,
        attempt=attempt,
    )


def _run_detail(row: asyncpg.Record, workflow: Workflow) -> RunStatusChanged:
    return RunStatusChanged(
        from_status=None if row["from_status"] is None else RunStatus(row["from_status"]),
        to_status=RunStatus(row["to_status"]),
        steps_summary=rows.steps_summary(row, len(workflow.steps)),
        error=rows.failure(row["error"]),
    )


def _step_detail(row: asyncpg.Record, workflow: Workflow) -> tuple[StepStatusChanged, int]:
    """The detail and the attempt it is about: none where the step has not been leased yet."""
    before, after = StepStatus(row["from_status"]), StepStatus(row["to_status"])
    attempt = row["attempt"] or 0
    if after is StepStatus.READY and before is StepStatus.PENDING:
        attempt = 0
    elif after is StepStatus.CANCELLED and before is StepStatus.READY:
        attempt = max(0, attempt - 1)  # The queue counts the attempt that was to come.
    did_attempt_end = before is StepStatus.RUNNING and after is not StepStatus.SKIPPED and attempt > 0
    input_hash = row["input_hash"]
    step_id = workflow.steps[row["step"]].step_id
    key = rows.cache_key(workflow, step_id, "" if input_hash is None else input_hash.hex())
    detail = StepStatusChanged(
        from_status=before,
        to_status=after,
        steps_summary=rows.steps_summary(row, len(workflow.steps)),
        output_source=None if row["source"] is None else OutputSource(row["source"]),
        error=rows.failure(row["error"]),
        next_attempt_at=row["next_attempt_at"],
        cache=rows.joining(row["leader_id"], step_id) or rows.decision(row["decision"], key),
        duration_ms=rows.duration_ms(row["started_at"], row["occurred_at"]) if did_attempt_end else None,
    )
    return detail, attempt


def _artifact_detail(row: asyncpg.Record, run: RunIdentity, workflow: Workflow) -> Artifact:
    return rows.artifact(
        row,
        run,
        workflow,
        artifact_id=str(row["artifact_id"]),
        source=OutputSource.EXECUTED,
        source_run=run.run_id,
    )
