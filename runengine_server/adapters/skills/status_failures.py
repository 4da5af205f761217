"""Says what a gRPC status that ended a call, or the stream it was on, means for the attempt."""

import logging
from typing import Final

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from runengine_client.pb.runengine.v1 import skill_runner_pb2
from runengine_server.adapters.skills.artifact_reader import ProtocolError
from runengine_server.adapters.skills.call_reader import CallReader
from runengine_server.adapters.skills.struct_values import seconds_of
from runengine_server.domain.failure import (
    OUTPUT_TOO_LARGE,
    SKILL_FAILED,
    SKILL_TIMEOUT,
    SKILL_UNAVAILABLE,
    Failure,
)
from runengine_server.ports.skill_runner import Failed, Outcome, SkillCall

# The contract's list; every other status fails the step for good.
_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
_CODE_OF: Final = {
    grpc.StatusCode.UNAVAILABLE: (SKILL_UNAVAILABLE, "The skill's runner cannot be reached"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (SKILL_TIMEOUT, "The skill did not finish in time"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (SKILL_UNAVAILABLE, "The skill's runner has no capacity"),
    grpc.StatusCode.ABORTED: (SKILL_UNAVAILABLE, "The skill's runner refused the call for now"),
    grpc.StatusCode.NOT_FOUND: (SKILL_UNAVAILABLE, "The skill's runner does not offer it"),
    grpc.StatusCode.UNIMPLEMENTED: (SKILL_UNAVAILABLE, "The skill's runner does not serve calls"),
    grpc.StatusCode.UNAUTHENTICATED: (SKILL_UNAVAILABLE, "The skill's runner did not accept the engine's token"),
    grpc.StatusCode.PERMISSION_DENIED: (SKILL_UNAVAILABLE, "The skill's runner did not admit the engine"),
}
# gRPC's own client reports a message beyond its limit as RESOURCE_EXHAUSTED, in these words only.
_TOO_LARGE_WORDS: Final = "larger than max"

_STATUS_OF_NAME: Final = {status.name: status for status in grpc.StatusCode if status is not grpc.StatusCode.OK}
_OF_THE_ENGINE: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
_ENDED: Final = "Skill call ended with %s: skillId=%s, runId=%s, stepId=%s, attempt=%d: %s"

_log = logging.getLogger(__name__)


def failed_with(problem: grpc.aio.AioRpcError, call: SkillCall, worker_id: str) -> Failed:
    """The attempt's failure; the status text is logged, not shown, because it quotes addresses."""
    status = problem.code()
    _log.warning(_ENDED, status.name, call.skill_id, call.run_id, call.step_id, call.attempt, problem.details())
    if is_too_large(problem):
        failure = Failure(code=OUTPUT_TOO_LARGE, message="The skill sent a message beyond 3 MiB")
        return Failed(failure=failure, worker_id=worker_id)
    return Failed(failure=_failure(status), retry_after_s=_retry_after_s(problem), worker_id=worker_id)


def refused_with(told: skill_runner_pb2.ExecuteFailure, call: SkillCall, reader: CallReader) -> Outcome:
    """The failure of a call on a shared stream that was not accepted: the status its runner names, if it does."""
    failed = reader.failure_of(told)
    name = (failed.failure.details or {}).get("grpcStatus")
    status = _STATUS_OF_NAME.get(name) if isinstance(name, str) else None
    if status is None:
        return reader.broken(ProtocolError("The runner's first message was not `accepted`"))
    _log.warning(_ENDED, status.name, call.skill_id, call.run_id, call.step_id, call.attempt, failed.failure.message)
    return Failed(failure=_failure(status), retry_after_s=failed.retry_after_s)


def lost_with(problem: grpc.aio.AioRpcError | None, call: SkillCall, reader: CallReader) -> Outcome:
    """The failure of a call whose shared stream has ended, None: with OK.

    What concerns the engine as a whole, such as its token, is told as it is; any other end of the stream says nothing
    of the call itself, whose runner is just not available.
    """
    if problem is None:
        return reader.broken(ProtocolError("The runner ended the stream without result or failure"))
    status = problem.code() if problem.code() in _OF_THE_ENGINE else grpc.StatusCode.UNAVAILABLE
    details = problem.details()
    _log.warning(_ENDED, problem.code().name, call.skill_id, call.run_id, call.step_id, call.attempt, details)
    return Failed(failure=_failure(status), worker_id=reader.worker_id)


def is_too_large(problem: grpc.aio.AioRpcError) -> bool:
    """Whether our own side ended the RPC because of a message beyond the limit."""
    return problem.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE_WORDS in (problem.details() or "")


def _failure(status: grpc.StatusCode) -> Failure:
    code, message = _CODE_OF.get(status, (SKILL_FAILED, f"The skill's runner ended the call with {status.name}"))
    return Failure(code=code, message=message, retryable=status in _RETRYABLE, details={"grpcStatus": status.name})


def _retry_after_s(problem: grpc.aio.AioRpcError) -> float | None:
    """The RetryInfo's delay in seconds, None without one."""
    for key, value in problem.trailing_metadata() or ():
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        try:
            details = Status.FromString(value).details
        except ValueError:
            return None
        for detail in details:
            retry = RetryInfo()
            if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(retry):
                return max(0.0, seconds_of(retry.retry_delay)) or None
    return None
