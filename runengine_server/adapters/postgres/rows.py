"""Turns rows of the read queries into domain values."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import asyncpg
import orjson

from runengine_server.adapters.postgres.encoding import decode_decision, decode_failure, decode_json
from runengine_server.domain.artifact import Artifact, ProducedArtifact
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.events import StepsSummary
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, RunKey, SkillId, StepId, StepNo, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.run import ChangeRequest, Run, Savings, Step, StepAttempt
from runengine_server.domain.states import (
    CacheOutcome,
    MissReason,
    OutputSource,
    RunStatus,
    StepStatus,
    TriggerType,
)
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.run_reader import RunIdentity, RunRow

_MILLISECOND = timedelta(milliseconds=1)


def run_row(row: asyncpg.Record) -> RunRow:
    """A row of runs_read."""
    status = RunStatus(row["status"])
    failed_step = row["failed_step"]
    run = Run(
        id=RunId(str(row["id"])),
        workflow_name=row["workflow_name"],
        workflow_version=row["workflow_version"],
        workflow_digest=WorkflowDigest(row["workflow_digest"].hex()),
        status=status,
        trigger_type=TriggerType(row["trigger_type"]),
        steps_summary=steps_summary(row, row["steps_total"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_sequence=row["last_sequence"],
        started_at=row["started_at"],
        completed_at=row["ended_at"],
        # A failing run knows its error before it ends; callers see it with the status.
        error=failure(row["error"]) if status is RunStatus.FAILED else None,
        base_run_id=run_id(row["base_id"]),
        root_run_id=run_id(row["root_id"]),
        trigger_payload=_json_object(row["payload"]),
        change_request=change_request(row),
        labels=orjson.loads(row["labels"]),
        cancel_reason=row["cancel_reason"] or "",
        request_id=row["request_id"],
        principal=row["principal"],
        deadline=row["deadline"],
        priority=row["priority"],
        savings=_savings(row),
    )
    return RunRow(key=RunKey(row["run"]), run=run, failed_step=None if failed_step is None else StepNo(failed_step))


def steps_summary(row: asyncpg.Record, total: int) -> StepsSummary:
    """The counters of a run's progress or of an event."""
    running, completed, skipped = row["running"], row["completed"], row["skipped"]
    failed, cancelled = row["failed"], row["cancelled"]
    return StepsSummary(
        total=total,
        pending=total - running - completed - skipped - failed - cancelled,
        running=running,
        completed=completed,
        skipped=skipped,
        failed=failed,
        cancelled=cancelled,
    )


def step(row: asyncpg.Record, run: RunIdentity, workflow: Workflow) -> Step:
    """A row of steps_read, in the BASIC view."""
    definition = workflow.steps[row["step"]]
    source = None if row["source"] is None else OutputSource(row["source"])
    input_hash = "" if row["input_hash"] is None else row["input_hash"].hex()
    key = cache_key(workflow, definition.step_id, input_hash)
    attempt, started_at, ended_at = row["attempt"], row["started_at"], row["ended_at"]
    return Step(
        run_id=run.run_id,
        step_id=definition.step_id,
        skill_id=SkillId(definition.skill_id),
        status=StepStatus(row["status"]),
        depends_on=definition.depends_on,
        level=0,
        attempt=attempt,
        max_attempts=definition.retry_policy.max_attempts,
        lease_losses=row["lease_losses"],
        input_hash=input_hash,
        cache_key=key,
        output_source=source,
        source_run_id=run_id(row["producer_id"]),
        error=failure(row["error"]),
        ready_at=row["ready_at"],
        # A lease that ended with a cache hit was no attempt.
        started_at=started_at if attempt > 0 else None,
        ended_at=ended_at,
        next_attempt_at=row["next_attempt_at"],
        duration_ms=duration_ms(started_at, ended_at) if source is OutputSource.EXECUTED else None,
        cache=joining(row["leader_id"], definition.step_id)
        or _with_age(decision(row["decision"], key), row["output_age"]),
        output_artifact_ids=tuple(map(str, row["artifact_ids"] or ())),
    )


def step_attempt(row: asyncpg.Record) -> StepAttempt:
    """A row of step_attempts_read."""
    return StepAttempt(
        attempt=row["attempt"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        error=failure(row["error"]),
        worker_id=row["worker_id"],
    )


def artifact(
    row: asyncpg.Record,
    run: RunIdentity,
    workflow: Workflow,
    *,
    artifact_id: str,
    source: OutputSource,
    source_run: RunId,
) -> Artifact:
    """An artifact as a run sees it, from a row that carries its columns."""
    return Artifact(
        id=artifact_id,
        run_id=run.run_id,
        step_id=workflow.steps[row["step"]].step_id,
        produced=produced_artifact(row),
        created_at=row["created_at"],
        source=source,
        source_run_id=source_run,
        skill_id=row["skill_id"],
        skill_version=row["skill_version"],
    )


def produced_artifact(row: asyncpg.Record) -> ProducedArtifact:
    """What a skill said of an artifact, from a row that carries its columns."""
    return _produced(
        row["media_type"],
        row["uri"],
        row["content_hash"],
        row["size_bytes"],
        row["filename"],
        row["metadata"],
        row["made_from"],
    )


def produced_artifacts(records: Sequence[Sequence[Any]] | None) -> tuple[ProducedArtifact, ...]:
    """What a skill said of an output's artifacts, from an array of records with the same columns."""
    return tuple(_produced(*record) for record in records or ())


def change_request(row: asyncpg.Record) -> ChangeRequest | None:
    """What an update asked for, from a row that carries its columns; None for other runs."""
    if row["change_type"] is None:
        return None
    return ChangeRequest(type=row["change_type"], payload=_json_object(row["change_payload"]) or {})


def run_id(value: object) -> RunId | None:
    """A public run id, or None."""
    return None if value is None else RunId(str(value))


def failure(data: bytes | None) -> Failure | None:
    """A failure column."""
    return None if data is None else decode_failure(data)


def cache_key(workflow: Workflow, step_id: StepId, input_hash: str) -> str:
    """The key a step's success is filed under; empty until its input is resolved."""
    return f"{workflow.name}:{step_id}:{input_hash}" if input_hash else ""


def decision(data: bytes | None, key: str) -> CacheDecision | None:
    """A decision column; a step that is not cached asked for no key."""
    if data is None:
        return None
    found = decode_decision(data, key)
    if found.outcome is CacheOutcome.DISABLED or found.miss_reason is MissReason.SCOPE:
        return decode_decision(data, "")
    return found


def joining(leader_id: object, step_id: StepId) -> CacheDecision | None:
    """The decision of a step that waits for that run's identical step, which has the same name; None without one."""
    if leader_id is None:
        return None
    return CacheDecision(outcome=CacheOutcome.JOINED, source_run_id=RunId(str(leader_id)), source_step_id=step_id)


def duration_ms(started_at: datetime | None, ended_at: datetime | None) -> int | None:
    """Whole milliseconds between two moments of the database's clock, never negative; None without both."""
    if started_at is None or ended_at is None:
        return None
    return max(0, (ended_at - started_at) // _MILLISECOND)


def _produced(
    media_type: str, uri: str, content_hash: bytes, size_bytes: int, filename: str, metadata: bytes, made_from: bytes
) -> ProducedArtifact:
    return ProducedArtifact(
        media_type=media_type,
        uri=uri,
        content_hash=content_hash.hex(),
        size_bytes=size_bytes,
        filename=filename,
        metadata=cast(JsonObject, decode_json(metadata)),
        made_from=tuple(cast("list[str]", decode_json(made_from))),
    )


def _with_age(found: CacheDecision | None, age: timedelta | None) -> CacheDecision | None:
    """The decision of a hit with the age of what it reused; one that a plan made was recorded without."""
    if found is None or found.outcome is not CacheOutcome.HIT or found.age_s is not None or age is None:
        return found
    return replace(found, age_s=max(0.0, age.total_seconds()))


def _json_object(data: bytes | None) -> JsonObject | None:
    return None if data is None else cast(JsonObject, decode_json(data))


def _savings(row: asyncpg.Record) -> Savings | None:
    if row["skipped"] == 0:
        return None
    return Savings(skipped_steps=row["skipped"], seconds_saved=row["saved_s"] or 0.0)
