"""Translates between a skill server's values and protobuf messages."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, assert_never

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from runengine_client.pb.runengine.v1 import run_pb2, skill_runner_pb2
from runengine_client.skills.artifact_folder import Artifact
from runengine_client.skills.definition import Skill
from runengine_client.skills.invocation import CallFailed, CallSucceeded
from runengine_client.skills.listener import CallMessage, Heartbeat, Progress
from runengine_client.skills.replay_store import FinishedCall

RETRYABLE: Final = frozenset({grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE})
"""Of the statuses a call is refused with, those that another attempt may help."""

# As much as the engine keeps. A failure must stay far below the size of a message, and details must not hide it.
_MESSAGE_CHARACTERS_MAX: Final = 2000
_DETAILS_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """The facts of one Execute request."""

    skill_id: str
    run_id: str
    step_id: str
    attempt: int
    idempotency_key: str
    fencing_token: int
    workflow_name: str
    tenant: str


def facts_of(request: skill_runner_pb2.ExecuteRequest) -> RequestFacts:
    """Which attempt a request is."""
    return RequestFacts(
        skill_id=request.skill_id,
        run_id=request.run_id,
        step_id=request.step_id,
        attempt=request.attempt,
        idempotency_key=request.idempotency_key,
        fencing_token=request.fencing_token,
        workflow_name=request.workflow_name,
        tenant=request.tenant,
    )


def response_of(message: CallMessage) -> skill_runner_pb2.ExecuteResponse:
    """A call's message as the wire has it."""
    match message:
        case Heartbeat():
            return skill_runner_pb2.ExecuteResponse(heartbeat=skill_runner_pb2.ExecuteHeartbeat())
        case Progress():
            return skill_runner_pb2.ExecuteResponse(progress=_progress(message))
        case Artifact():
            return skill_runner_pb2.ExecuteResponse(artifact=_artifact(message))
        case CallSucceeded():
            result = skill_runner_pb2.ExecuteResult(output_json=message.output_json, do_not_cache=message.do_not_cache)
            return skill_runner_pb2.ExecuteResponse(result=result)
        case CallFailed():
            return skill_runner_pb2.ExecuteResponse(failure=_failure(message))
        case _:
            assert_never(message)


def accepted(
    worker_id: str, skill_version: str, cache_version: str, *, is_attached: bool = False, is_replayed: bool = False
) -> skill_runner_pb2.ExecuteResponse:
    """The first message of every call."""
    message = skill_runner_pb2.ExecuteAccepted(
        worker_id=worker_id,
        skill_version=skill_version,
        cache_version=cache_version,
        attached=is_attached,
        replayed=is_replayed,
    )
    return skill_runner_pb2.ExecuteResponse(accepted=message)


def replay(worker_id: str, finished: FinishedCall) -> Iterator[skill_runner_pb2.ExecuteResponse]:
    """All messages of a call that is answered with the success it had."""
    yield accepted(worker_id, finished.skill_version, finished.cache_version, is_replayed=True)
    yield from map(response_of, finished.success.artifacts)
    yield response_of(finished.success)


def refused(status: grpc.StatusCode, message: str, retry_after_s: float | None) -> skill_runner_pb2.ExecuteResponse:
    """The only message of a call on a shared stream that Execute would have ended with this status."""
    failure = CallFailed(
        code="SKILL_UNAVAILABLE",
        message=message,
        retryable=status in RETRYABLE,
        retry_after_s=retry_after_s,
        details={"grpcStatus": status.name},
    )
    return response_of(failure)


def catalogue_of(skills: Iterable[Skill]) -> skill_runner_pb2.ListSkillsResponse:
    """What ListSkills answers."""
    return skill_runner_pb2.ListSkillsResponse(skills=[_skill(skill) for skill in skills], supports_many=True)


def _skill(skill: Skill) -> skill_runner_pb2.Skill:
    timeout_s = skill.default_timeout_s
    return skill_runner_pb2.Skill(
        skill_id=skill.skill_id,
        version=skill.version,
        cache_version=skill.cache_version,
        description=skill.description,
        max_concurrency=skill.max_concurrency,
        default_timeout=None if timeout_s is None else _duration(timeout_s),
        input_schema=None if skill.input_schema is None else _struct(skill.input_schema),
        output_schema=None if skill.output_schema is None else _struct(skill.output_schema),
    )


def _progress(progress: Progress) -> run_pb2.StepProgress:
    reported_at = Timestamp()
    reported_at.FromDatetime(progress.reported_at)
    return run_pb2.StepProgress(fraction=progress.fraction, message=progress.message, reported_at=reported_at)


def _artifact(artifact: Artifact) -> skill_runner_pb2.ProducedArtifact:
    return skill_runner_pb2.ProducedArtifact(
        type=artifact.media_type,
        uri=artifact.uri,
        content_hash=artifact.content_hash,
        size_bytes=artifact.size_bytes,
        filename=artifact.filename,
        metadata=_struct(artifact.metadata) if artifact.metadata else None,
        made_from=artifact.made_from,
    )


def _failure(failure: CallFailed) -> skill_runner_pb2.ExecuteFailure:
    return skill_runner_pb2.ExecuteFailure(
        code=failure.code,
        message=failure.message[:_MESSAGE_CHARACTERS_MAX],
        retryable=failure.retryable,
        retry_after=None if failure.retry_after_s is None else _duration(failure.retry_after_s),
        details=None if failure.details is None else _details(failure.details),
    )


def _details(details: Mapping[str, Any]) -> Struct | None:
    """Details that are no JSON, or very long, are left out: they must not hide the failure they describe."""
    try:
        struct = _struct(details)
    except (TypeError, ValueError):
        return None
    return struct if struct.ByteSize() <= _DETAILS_BYTES_MAX else None


def _struct(value: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update(dict(value))
    return struct


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
