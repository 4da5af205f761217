"""Says what a gRPC status that ended a call means for the attempt."""

import logging
from typing import Final

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from runengine_server.adapters.skills.struct_values import seconds_of
from runengine_server.domain.failure import (
    OUTPUT_TOO_LARGE,
    SKILL_FAILED,
    SKILL_TIMEOUT,
    SKILL_UNAVAILABLE,
    Failure,
)
from runengine_server.ports.skill_runner import Failed, SkillCall

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

_log = logging.getLogger(__name__)


def failed_with(problem: grpc.aio.AioRpcError, call: SkillCall, worker_id: str) -> Failed:
    """The attempt's failure; the status text is logged, not shown, because it quotes addresses."""
    status = problem.code()
    _log.warning(
        "Skill call ended with %s: skillId=%s, runId=%s, stepId=%s, attempt=%d: %s",
        status.name,
        call.skill_id,
        call.run_id,
        call.step_id,
        call.attempt,
        problem.details(),
    )
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE_WORDS in (problem.details() or ""):
        failure = Failure(code=OUTPUT_TOO_LARGE, message="The skill sent a message beyond 3 MiB")
        return Failed(failure=failure, worker_id=worker_id)
    code, message = _CODE_OF.get(status, (SKILL_FAILED, f"The skill's runner ended the call with {status.name}"))
    failure = Failure(
        code=code,
        message=message,
        retryable=status in _RETRYABLE,
        details={"grpcStatus": status.name},
    )
    return Failed(failure=failure, retry_after_s=_retry_after_s(problem), worker_id=worker_id)


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
