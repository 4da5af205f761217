"""Reads what an engine asks for, or says with which status it is refused; the same on both kinds of stream."""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import grpc

from runengine_client.pb.runengine.v1 import skill_runner_pb2
from runengine_client.skills import wire
from runengine_client.skills.call_registry import Admission, CallRefusedError, CallRegistry, Refusal
from runengine_client.skills.definition import Skill
from runengine_client.skills.running_call import CallOrder

_HEARTBEAT_DEFAULT_S: Final = 10.0
_HEARTBEAT_MIN_S: Final = 0.01
_TIMEOUT_DEFAULT_S: Final = 60.0
_RETRY_AFTER_FULL_S: Final = 1.0
_TRACEPARENT: Final = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_STATUS_OF: Final = {
    Refusal.STALE_TOKEN: grpc.StatusCode.ABORTED,
    Refusal.OTHER_CONTENT: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refusal.STOPPING: grpc.StatusCode.UNAVAILABLE,
}


class RequestRefusedError(Exception):
    """A request starts nothing; `status` and `message` say why, `retry_after_s` when to come again, None if unknown."""

    def __init__(self, status: grpc.StatusCode, message: str, *, retry_after_s: float | None = None) -> None:
        """Say why."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


def admit(registry: CallRegistry, order: CallOrder, skill: Skill) -> Admission:
    """The call runs, or ran (see `CallRegistry.admit`).

    Raises:
        RequestRefusedError: it is not taken on.
    """
    try:
        return registry.admit(order, skill)
    except CallRefusedError as refused:
        retry_after_s = _RETRY_AFTER_FULL_S if refused.refusal is Refusal.FULL else None
        status = _STATUS_OF[refused.refusal]
        raise RequestRefusedError(status, refused.message, retry_after_s=retry_after_s) from None


def skill_of(request: skill_runner_pb2.ExecuteRequest, skills: Mapping[str, Skill]) -> Skill:
    """The skill asked for.

    Raises:
        RequestRefusedError: it is not offered here.
    """
    skill = skills.get(request.skill_id)
    if skill is None:
        raise RequestRefusedError(grpc.StatusCode.NOT_FOUND, f"This runner does not offer {request.skill_id!r}")
    return skill


def read_order(
    request: skill_runner_pb2.ExecuteRequest,
    skill: Skill,
    *,
    remaining_s: float | None,
    traceparent: str = "",
    tracestate: str = "",
) -> CallOrder:
    """The order, checked.

    Args:
        request: what the engine sent.
        skill: the one asked for.
        remaining_s: seconds left as the transport counts them, None if it does not; right where clocks differ.
        traceparent: the header of W3C Trace Context, empty without one; one that is malformed counts as none.
        tracestate: the header that goes with it.

    Raises:
        RequestRefusedError: INVALID_ARGUMENT.
    """
    body = request.input_json
    if not 0 < len(request.idempotency_key) <= 512:
        raise _invalid("idempotency_key must have 1 to 512 characters")
    input_hash = hashlib.sha256(body).hexdigest()
    if input_hash != request.input_hash:
        raise _invalid("input_hash is not the SHA-256 of input_json")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _invalid("input_json is not a JSON object")
    is_traced = _TRACEPARENT.fullmatch(traceparent) is not None
    return CallOrder(
        facts=wire.facts_of(request),
        input=value,
        input_hash=input_hash,
        timeout_s=_timeout_s(request, skill) if remaining_s is None else remaining_s,
        traceparent=traceparent if is_traced else "",
        tracestate=tracestate if is_traced else "",
    )


def heartbeat_s(request: skill_runner_pb2.ExecuteRequest) -> float:
    """How long the call may be silent, in seconds."""
    if not request.HasField("heartbeat_interval"):
        return _HEARTBEAT_DEFAULT_S
    interval = request.heartbeat_interval
    return max(_HEARTBEAT_MIN_S, float(interval.seconds + interval.nanos / 1e9))


def _invalid(message: str) -> RequestRefusedError:
    return RequestRefusedError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _timeout_s(request: skill_runner_pb2.ExecuteRequest, skill: Skill) -> float:
    if not request.HasField("deadline"):
        return skill.default_timeout_s or _TIMEOUT_DEFAULT_S
    deadline = request.deadline.seconds + request.deadline.nanos / 1e9
    return float(max(0.0, deadline - datetime.now(UTC).timestamp()))
