"""Answers SkillRunnerService: checks the request, asks the registry, streams what the call says."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc
from runengine_client.skills import wire
from runengine_client.skills.call_registry import (
    Attached,
    CallRefusedError,
    CallRegistry,
    Refusal,
    Replayed,
    Started,
)
from runengine_client.skills.definition import Skill
from runengine_client.skills.running_call import CallOrder

_HEARTBEAT_DEFAULT_S: Final = 10.0
_HEARTBEAT_MIN_S: Final = 0.01
_TIMEOUT_DEFAULT_S: Final = 60.0
_RETRY_AFTER_FULL_S: Final = 1

_STATUS_OF: Final = {
    Refusal.STALE_TOKEN: grpc.StatusCode.ABORTED,
    Refusal.OTHER_CONTENT: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refusal.STOPPING: grpc.StatusCode.UNAVAILABLE,
}

CANCEL_METADATA: Final = "runengine-cancel"
"""On an Execute: nobody wants the call with this key any more.

gRPC tells a runner of a cancelled RPC as it does of a lost engine, for which the call must go on. A runner that does
not know this name sees a deadline that has passed."""

Context = grpc.aio.ServicerContext[Any, Any]


class SkillRunnerServicer(skill_runner_pb2_grpc.SkillRunnerServiceServicer):
    """One server's skills on the wire."""

    def __init__(
        self,
        skills: Mapping[str, Skill],
        registry: CallRegistry,
        *,
        worker_id: str,
        grace_s: float,
        token: str | None,
    ) -> None:
        """Serve the skills.

        Args:
            skills: by id.
            registry: where calls live.
            worker_id: what `accepted` says.
            grace_s: how long a call outlives its last engine, seconds.
            token: the bearer token callers must show; None admits everybody.
        """
        self._skills = skills
        self._registry = registry
        self._worker_id = worker_id
        self._grace_s = grace_s
        self._token = token

    async def ListSkills(  # noqa: N802
        self, request: skill_runner_pb2.ListSkillsRequest, context: Context
    ) -> skill_runner_pb2.ListSkillsResponse:
        """The skills this server runs."""
        await self._check_caller(context)
        return wire.catalogue_of(self._skills.values())

    async def Execute(  # noqa: N802
        self, request: skill_runner_pb2.ExecuteRequest, context: Context
    ) -> AsyncIterator[skill_runner_pb2.ExecuteResponse]:
        """One call's messages, from `accepted` to its outcome."""
        await self._check_caller(context)
        skill = self._skills.get(request.skill_id)
        if skill is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"This runner does not offer {request.skill_id!r}")
        order = await self._order_of(request, skill, context)
        await context.send_initial_metadata(((CANCEL_METADATA, "understood"),))
        if _metadata(context, CANCEL_METADATA):
            yield wire.accepted(self._worker_id, skill.version, skill.cache_version)
            yield wire.response_of(self._registry.abandon(order))
            return
        try:
            admission = self._registry.admit(order, skill)
        except CallRefusedError as refused:
            await _refuse(refused, context)
        match admission:
            case Replayed(finished=finished):
                yield wire.accepted(self._worker_id, finished.skill_version, finished.cache_version, is_replayed=True)
                for artifact in finished.success.artifacts:
                    yield wire.response_of(artifact)
                yield wire.response_of(finished.success)
            case Started(call=call) | Attached(call=call):
                call.listen()
                # Not a `finally`: gRPC leaves a generator that it was writing for suspended when a call is cancelled.
                context.add_done_callback(lambda _: call.leave(self._grace_s))  # type: ignore[arg-type]
                is_attached = isinstance(admission, Attached)
                yield wire.accepted(
                    self._worker_id, call.skill.version, call.skill.cache_version, is_attached=is_attached
                )
                async for message in call.messages(_heartbeat_s(request)):
                    yield wire.response_of(message)

    async def ExecuteMany(  # noqa: N802
        self, request_iterator: AsyncIterator[skill_runner_pb2.ExecuteManyRequest], context: Context
    ) -> AsyncIterator[skill_runner_pb2.ExecuteManyResponse]:
        """Refused: `supports_many` is false."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "This runner serves single calls only")
        yield skill_runner_pb2.ExecuteManyResponse()

    async def _order_of(self, request: skill_runner_pb2.ExecuteRequest, skill: Skill, context: Context) -> CallOrder:
        problem = _problem_of(request)
        if problem:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        try:
            value = json.loads(request.input_json)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input_json is not a JSON object")
        return CallOrder(
            facts=wire.facts_of(request),
            input=value,
            input_hash=request.input_hash,
            timeout_s=_timeout_s(request, skill, context),
            trace_id=_trace_id(context),
        )

    async def _check_caller(self, context: Context) -> None:
        if self._token is None:
            return
        shown = _metadata(context, "authorization")
        if not hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "A valid bearer token is required")


def _problem_of(request: skill_runner_pb2.ExecuteRequest) -> str:
    if not request.idempotency_key or len(request.idempotency_key) > 512:
        return "idempotency_key must have 1 to 512 characters"
    if hashlib.sha256(request.input_json).hexdigest() != request.input_hash:
        return "input_hash is not the SHA-256 of input_json"
    return ""


def _timeout_s(request: skill_runner_pb2.ExecuteRequest, skill: Skill, context: Context) -> float:
    """Seconds left; the RPC's own deadline is relative, so it is right where clocks differ, and goes first."""
    remaining_s = context.time_remaining()
    if remaining_s is not None:
        return remaining_s
    if request.HasField("deadline"):
        return _seconds_until(request)
    return skill.default_timeout_s or _TIMEOUT_DEFAULT_S


def _seconds_until(request: skill_runner_pb2.ExecuteRequest) -> float:
    deadline = request.deadline.ToDatetime(tzinfo=UTC)
    return max(0.0, (deadline - datetime.now(UTC)).total_seconds())


def _heartbeat_s(request: skill_runner_pb2.ExecuteRequest) -> float:
    if not request.HasField("heartbeat_interval"):
        return _HEARTBEAT_DEFAULT_S
    return max(_HEARTBEAT_MIN_S, request.heartbeat_interval.ToTimedelta().total_seconds())


def _trace_id(context: Context) -> str:
    """The trace id of a W3C `traceparent`, empty without one."""
    parts = _metadata(context, "traceparent").split("-")
    return parts[1] if len(parts) >= 4 else ""


def _metadata(context: Context, name: str) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""


async def _refuse(refused: CallRefusedError, context: Context) -> NoReturn:
    code = _STATUS_OF[refused.refusal]
    trailers: tuple[tuple[str, bytes], ...] = ()
    if refused.refusal is Refusal.FULL:
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=Duration(seconds=_RETRY_AFTER_FULL_S)))
        status = Status(code=code.value[0], message=refused.message, details=[detail])
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, refused.message, trailing_metadata=trailers)
    raise AssertionError("abort raises")
