"""Runs, steps and artifacts onto the wire."""

from runengine_client.pb.runengine.v1 import run_pb2
from runengine_server.domain.artifact import Artifact
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.events import StepProgress, StepsSummary
from runengine_server.domain.failure import Failure
from runengine_server.domain.run import Run, Savings, Step, StepAttempt
from runengine_server.rpc.conversion.json_struct import struct_of, struct_of_any
from runengine_server.rpc.conversion.scalar import duration_of, timestamp_of


def run_to_proto(run: Run) -> run_pb2.Run:
    """The run; what it does not have stays unset."""
    return run_pb2.Run(
        id=run.id,
        workflow_name=run.workflow_name,
        workflow_version=run.workflow_version,
        workflow_digest=run.workflow_digest,
        status=run_pb2.RunStatus.ValueType(run.status),
        trigger_type=run_pb2.TriggerType.ValueType(run.trigger_type),
        steps_summary=summary_to_proto(run.steps_summary),
        created_at=timestamp_of(run.created_at),
        updated_at=timestamp_of(run.updated_at),
        started_at=timestamp_of(run.started_at),
        completed_at=timestamp_of(run.completed_at),
        deadline=timestamp_of(run.deadline),
        error=failure_to_proto(run.error),
        base_run_id=run.base_run_id or "",
        root_run_id=run.root_run_id or "",
        trigger_payload=struct_of(run.trigger_payload),
        change_request=_change_request(run),
        labels=run.labels,
        last_sequence=run.last_sequence,
        cancel_reason=run.cancel_reason,
        request_id=run.request_id,
        principal=run.principal,
        priority=run.priority,
        failed_step=run.failed_step or "",
        savings=_savings(run.savings),
    )


def step_to_proto(step: Step) -> run_pb2.Step:
    """The step; what it does not have stays unset."""
    return run_pb2.Step(
        run_id=step.run_id,
        step_id=step.step_id,
        skill_id=step.skill_id,
        status=run_pb2.StepStatus.ValueType(step.status),
        depends_on=step.depends_on,
        level=step.level,
        attempt=step.attempt,
        max_attempts=step.max_attempts,
        lease_losses=step.lease_losses,
        input_hash=step.input_hash,
        cache_key=step.cache_key,
        output_source=run_pb2.OutputSource.ValueType(step.output_source or 0),
        source_run_id=step.source_run_id or "",
        progress=progress_to_proto(step.progress) if step.progress is not None else None,
        error=failure_to_proto(step.error),
        ready_at=timestamp_of(step.ready_at),
        started_at=timestamp_of(step.started_at),
        ended_at=timestamp_of(step.ended_at),
        next_attempt_at=timestamp_of(step.next_attempt_at),
        duration_ms=step.duration_ms or 0,
        input=struct_of(step.input),
        output=struct_of_any(step.output),
        attempts=[_attempt(attempt) for attempt in step.attempts],
        cache=decision_to_proto(step.cache),
        output_artifact_ids=step.output_artifact_ids,
    )


def artifact_to_proto(artifact: Artifact) -> run_pb2.Artifact:
    """The artifact as its run sees it."""
    produced = artifact.produced
    return run_pb2.Artifact(
        id=artifact.id,
        run_id=artifact.run_id,
        step_id=artifact.step_id,
        type=produced.media_type,
        uri=produced.uri,
        content_hash=produced.content_hash,
        size_bytes=produced.size_bytes,
        filename=produced.filename,
        metadata=struct_of(produced.metadata),
        created_at=timestamp_of(artifact.created_at),
        source=run_pb2.OutputSource.ValueType(artifact.source),
        source_run_id=artifact.source_run_id,
        skill_id=artifact.skill_id,
        skill_version=artifact.skill_version,
    )


def summary_to_proto(summary: StepsSummary) -> run_pb2.StepsSummary:
    """The counts of steps by state."""
    return run_pb2.StepsSummary(
        total=summary.total,
        pending=summary.pending,
        running=summary.running,
        completed=summary.completed,
        skipped=summary.skipped,
        failed=summary.failed,
        cancelled=summary.cancelled,
    )


def failure_to_proto(failure: Failure | None) -> run_pb2.Failure | None:
    """The failure; None stays None."""
    if failure is None:
        return None
    return run_pb2.Failure(
        code=failure.code,
        message=failure.message,
        retryable=failure.retryable,
        details=struct_of(failure.details),
        step_id=failure.step_id,
        attempt=failure.attempt,
    )


def decision_to_proto(decision: CacheDecision | None) -> run_pb2.CacheDecision | None:
    """What the cache said; None stays None."""
    if decision is None:
        return None
    return run_pb2.CacheDecision(
        outcome=run_pb2.CacheOutcome.ValueType(decision.outcome),
        tier=run_pb2.CacheTier.ValueType(decision.tier or 0),
        key=decision.key,
        source_run_id=decision.source_run_id or "",
        source_step_id=decision.source_step_id or "",
        age=duration_of(decision.age_s),
        miss_reason=run_pb2.MissReason.ValueType(decision.miss_reason or 0),
        changed_pointers=decision.changed_pointers,
        nearest_run_id=decision.nearest_run_id or "",
    )


def progress_to_proto(progress: StepProgress) -> run_pb2.StepProgress:
    """What a skill last said of its progress."""
    return run_pb2.StepProgress(
        fraction=progress.fraction, message=progress.message, reported_at=timestamp_of(progress.reported_at)
    )


def _change_request(run: Run) -> run_pb2.ChangeRequest | None:
    """Type, and where everything was asked for the payload; `{}` would say that there was none."""
    if run.change_request is None:
        return None
    payload = None if run.trigger_payload is None else struct_of(run.change_request.payload)
    return run_pb2.ChangeRequest(type=run.change_request.type, payload=payload)


def _savings(savings: Savings | None) -> run_pb2.Savings | None:
    if savings is None:
        return None
    return run_pb2.Savings(skipped_steps=savings.skipped_steps, seconds_saved=savings.seconds_saved)


def _attempt(attempt: StepAttempt) -> run_pb2.StepAttempt:
    return run_pb2.StepAttempt(
        attempt=attempt.attempt,
        started_at=timestamp_of(attempt.started_at),
        ended_at=timestamp_of(attempt.ended_at),
        error=failure_to_proto(attempt.error),
        worker_id=attempt.worker_id,
    )
