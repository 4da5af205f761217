"""Turns the contract's messages into the client's values; the only place that knows how they correspond."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.message import Message

from runengine_client import states, types
from runengine_client.payload import from_struct
from runengine_client.pb.runengine.v1 import run_engine_pb2, run_pb2

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

E = TypeVar("E", bound=StrEnum)
V = TypeVar("V", bound=int)


TriggerAnswer = run_engine_pb2.TriggerResponse | run_engine_pb2.TriggerUpdateResponse | run_engine_pb2.RetryRunResponse
"""What Trigger, TriggerUpdate and RetryRun answer alike."""


def enum_of(cls: type[E], wire: "_EnumTypeWrapper[Any]", number: int) -> E | None:
    """The member with this wire number; None for unspecified, `unknown` for one newer than this client."""
    if number == 0:
        return None
    prefix = wire.Name(0).removesuffix("UNSPECIFIED")
    if number not in wire.values():
        return cls("unknown")
    return cls(wire.Name(number).removeprefix(prefix).lower())


def wire_number(wire: "_EnumTypeWrapper[V]", member: StrEnum | str | None) -> V:
    """The wire number of a member or of its text; 0 for None.

    Raises:
        ValueError: the contract has no such value; the message lists the ones it has.
    """
    unspecified = wire.keys()[0]
    if member is None:
        return wire.Value(unspecified)
    prefix = unspecified.removesuffix("UNSPECIFIED")
    name = f"{prefix}{str(member).upper()}"
    if name not in wire.keys() or name == unspecified:  # noqa: SIM118 - the wrapper is not a dict
        known = ", ".join(key.removeprefix(prefix).lower() for key in wire.keys()[1:])
        raise ValueError(f"{str(member)!r} is not one of {known}")
    return wire.Value(name)


def required(cls: type[E], wire: "_EnumTypeWrapper[Any]", number: int) -> E:
    """As `enum_of`, for a field that is never unspecified: `unknown` stands in."""
    return enum_of(cls, wire, number) or cls("unknown")


def time_of(message: Message, name: str) -> datetime | None:
    """A timestamp field as aware UTC; None if it is unset."""
    if not message.HasField(name):
        return None
    timestamp: timestamp_pb2.Timestamp = getattr(message, name)
    return timestamp.ToDatetime(tzinfo=UTC)


def span_of(message: Message, name: str) -> timedelta | None:
    """A duration field; None if it is unset."""
    if not message.HasField(name):
        return None
    duration: duration_pb2.Duration = getattr(message, name)
    return duration.ToTimedelta()


T = TypeVar("T")
M = TypeVar("M", bound=Message)


def optional(message: Message, name: str, convert: Callable[[M], T]) -> T | None:
    """A converted submessage; None if it is unset."""
    return convert(getattr(message, name)) if message.HasField(name) else None


def summary(message: run_pb2.StepsSummary) -> types.StepsSummary:
    """The steps counted by status."""
    return types.StepsSummary(
        total=message.total,
        pending=message.pending,
        running=message.running,
        completed=message.completed,
        skipped=message.skipped,
        failed=message.failed,
        cancelled=message.cancelled,
    )


def failure(message: run_pb2.Failure) -> types.Failure:
    """Why something failed."""
    return types.Failure(
        code=message.code,
        message=message.message,
        retryable=message.retryable,
        details=optional(message, "details", from_struct),
        step_id=message.step_id,
        attempt=message.attempt,
    )


def change_request(message: run_pb2.ChangeRequest) -> types.ChangeRequest:
    """What an update changed."""
    return types.ChangeRequest(type=message.type, payload=optional(message, "payload", from_struct))


def run(message: run_pb2.Run) -> types.Run:
    """A run."""
    return types.Run(
        id=message.id,
        workflow_name=message.workflow_name,
        workflow_version=message.workflow_version,
        workflow_digest=message.workflow_digest,
        status=required(states.RunStatus, run_pb2.RunStatus, message.status),
        trigger_type=required(states.TriggerType, run_pb2.TriggerType, message.trigger_type),
        steps_summary=summary(message.steps_summary),
        created_at=time_of(message, "created_at"),
        started_at=time_of(message, "started_at"),
        completed_at=time_of(message, "completed_at"),
        updated_at=time_of(message, "updated_at"),
        deadline=time_of(message, "deadline"),
        error=optional(message, "error", failure),
        failed_step=message.failed_step,
        base_run_id=message.base_run_id,
        root_run_id=message.root_run_id,
        trigger_payload=optional(message, "trigger_payload", from_struct),
        change_request=optional(message, "change_request", change_request),
        labels=dict(message.labels),
        priority=message.priority,
        cancel_reason=message.cancel_reason,
        request_id=message.request_id,
        principal=message.principal,
        last_sequence=message.last_sequence,
        savings=types.Savings(skipped_steps=message.savings.skipped_steps, seconds_saved=message.savings.seconds_saved),
    )


def cache_decision(message: run_pb2.CacheDecision) -> types.CacheDecision:
    """What the cache did for a step."""
    return types.CacheDecision(
        outcome=required(states.CacheOutcome, run_pb2.CacheOutcome, message.outcome),
        tier=enum_of(states.CacheTier, run_pb2.CacheTier, message.tier),
        key=message.key,
        source_run_id=message.source_run_id,
        source_step_id=message.source_step_id,
        age=span_of(message, "age"),
        miss_reason=enum_of(states.MissReason, run_pb2.MissReason, message.miss_reason),
        changed_pointers=tuple(message.changed_pointers),
        nearest_run_id=message.nearest_run_id,
    )


def progress(message: run_pb2.StepProgress) -> types.StepProgress:
    """How far a running skill says it is."""
    return types.StepProgress(
        fraction=message.fraction, message=message.message, reported_at=time_of(message, "reported_at")
    )


def attempt(message: run_pb2.StepAttempt) -> types.StepAttempt:
    """One try of a step."""
    return types.StepAttempt(
        attempt=message.attempt,
        started_at=time_of(message, "started_at"),
        ended_at=time_of(message, "ended_at"),
        error=optional(message, "error", failure),
        worker_id=message.worker_id,
    )


def step(message: run_pb2.Step) -> types.Step:
    """A step of a run."""
    return types.Step(
        run_id=message.run_id,
        step_id=message.step_id,
        skill_id=message.skill_id,
        status=required(states.StepStatus, run_pb2.StepStatus, message.status),
        depends_on=tuple(message.depends_on),
        level=message.level,
        attempt=message.attempt,
        max_attempts=message.max_attempts,
        lease_losses=message.lease_losses,
        input_hash=message.input_hash,
        cache_key=message.cache_key,
        cache=optional(message, "cache", cache_decision),
        output_source=enum_of(states.OutputSource, run_pb2.OutputSource, message.output_source),
        source_run_id=message.source_run_id,
        progress=optional(message, "progress", progress),
        error=optional(message, "error", failure),
        ready_at=time_of(message, "ready_at"),
        started_at=time_of(message, "started_at"),
        ended_at=time_of(message, "ended_at"),
        next_attempt_at=time_of(message, "next_attempt_at"),
        duration_ms=message.duration_ms,
        input=optional(message, "input", from_struct),
        output=optional(message, "output", from_struct),
        attempts=tuple(attempt(each) for each in message.attempts),
        output_artifact_ids=tuple(message.output_artifact_ids),
    )


def artifact(message: run_pb2.Artifact) -> types.Artifact:
    """An artifact."""
    return types.Artifact(
        id=message.id,
        run_id=message.run_id,
        step_id=message.step_id,
        type=message.type,
        uri=message.uri,
        content_hash=message.content_hash,
        size_bytes=message.size_bytes,
        filename=message.filename,
        metadata=optional(message, "metadata", from_struct),
        created_at=time_of(message, "created_at"),
        source=enum_of(states.OutputSource, run_pb2.OutputSource, message.source),
        source_run_id=message.source_run_id,
        skill_id=message.skill_id,
        skill_version=message.skill_version,
    )


def planned_step(message: run_pb2.PlannedStep) -> types.PlannedStep:
    """What a plan does with one step."""
    return types.PlannedStep(
        step_id=message.step_id,
        action=required(states.PlanAction, run_pb2.PlanAction, message.action),
        reason=required(states.PlanReason, run_pb2.PlanReason, message.reason),
        caused_by=tuple(message.caused_by),
        changed_pointers=tuple(message.changed_pointers),
        unknown_until=tuple(message.unknown_until),
        estimate=span_of(message, "estimate"),
    )


def plan(message: run_pb2.RebuildPlan) -> types.RebuildPlan:
    """A plan."""
    return types.RebuildPlan(
        steps=tuple(planned_step(each) for each in message.steps),
        execute_count=message.execute_count,
        reuse_count=message.reuse_count,
        unknown_count=message.unknown_count,
        seed_step_ids=tuple(message.seed_step_ids),
        digest=message.digest,
        base_run_id=message.base_run_id,
        estimate=span_of(message, "estimate"),
    )


def accepted(message: TriggerAnswer) -> types.Accepted:
    """The answer to a trigger, an update or a retry."""
    return types.Accepted(
        run_id=message.run_id,
        status=required(states.RunStatus, run_pb2.RunStatus, message.status),
        message=message.message,
        is_deduplicated=message.deduplicated,
        plan=plan(message.plan) if message.HasField("plan") else None,
    )


def cancelled(message: run_engine_pb2.CancelResponse) -> types.Cancelled:
    """The answer to Cancel."""
    return types.Cancelled(run=run(message.run), message=message.message)


def explanation(message: run_engine_pb2.ExplainStepResponse) -> types.StepExplanation:
    """The answer to ExplainStep."""
    return types.StepExplanation(step=step(message.step), text=tuple(message.text))


def comparison(message: run_engine_pb2.CompareRunsResponse) -> types.RunComparison:
    """The answer to CompareRuns."""
    return types.RunComparison(
        steps=tuple(step_diff(each) for each in message.steps),
        root_cause_step_ids=tuple(message.root_cause_step_ids),
    )


def step_diff(message: run_engine_pb2.StepDiff) -> types.StepDiff:
    """One step of a comparison."""
    return types.StepDiff(
        step_id=message.step_id,
        left=optional(message, "left", step),
        right=optional(message, "right", step),
        input_pointers=tuple(message.input_pointers),
        output_changed=message.output_changed,
    )


def lineage(message: run_engine_pb2.GetLineageResponse) -> types.Lineage:
    """The answer to GetLineage."""
    return types.Lineage(
        artifacts=tuple(artifact(node.artifact) for node in message.nodes),
        edges=tuple(
            types.LineageEdge(
                from_artifact_id=edge.from_artifact_id, to_artifact_id=edge.to_artifact_id, step_id=edge.step_id
            )
            for edge in message.edges
        ),
    )


def watch_token(message: run_engine_pb2.CreateWatchTokenResponse) -> types.WatchToken:
    """The answer to CreateWatchToken."""
    return types.WatchToken(token=message.token, expires_at=message.expires_at.ToDatetime(tzinfo=UTC))
