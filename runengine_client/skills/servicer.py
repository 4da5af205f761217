"""Answers SkillRunnerService: checks the request, asks the registry, streams what the call says."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NoReturn

import anyio
import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc
from runengine_client.skills import wire
from runengine_client.skills.call_registry import Attached, CallRegistry, Replayed, Started
from runengine_client.skills.call_stream import CallStream
from runengine_client.skills.definition import Skill
from runengine_client.skills.listener import HEARTBEAT, CallMessage, Listener
from runengine_client.skills.orders import RequestRefusedError, admit, heartbeat_s, read_order, skill_of

CANCEL_METADATA: Final = "runengine-cancel"
"""On an Execute: nobody wants the call with this key any more.

gRPC tells a runner of a cancelled RPC as it does of a lost engine, for which the call must go on. A runner that does
not know this name sees a deadline that has passed."""

_UNDERSTOOD: Final = ((CANCEL_METADATA, "understood"),)

_log = logging.getLogger("runengine.skills")

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
        self._streams: set[CallStream] = set()
        self._is_stopping = False

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
        try:
            skill = skill_of(request, self._skills)
            order = read_order(
                request,
                skill,
                remaining_s=context.time_remaining(),
                traceparent=_metadata(context, "traceparent"),
                tracestate=_metadata(context, "tracestate"),
            )
            await context.send_initial_metadata(_UNDERSTOOD)
            if _metadata(context, CANCEL_METADATA):
                yield wire.accepted(self._worker_id, skill.version, skill.cache_version)
                yield wire.response_of(self._registry.abandon(order))
                return
            admission = admit(self._registry, order, skill)
        except RequestRefusedError as refused:
            await _refuse(refused, context)
        match admission:
            case Replayed(finished=finished):
                for response in wire.replay(self._worker_id, finished):
                    yield response
            case Started(call=call) | Attached(call=call):
                changed = asyncio.Event()
                listener = call.listen(changed.set)
                # Not a `finally`: gRPC leaves a generator that it was writing for suspended when a call is cancelled.
                context.add_done_callback(lambda _: call.leave(listener, self._grace_s))  # type: ignore[arg-type]
                is_attached = isinstance(admission, Attached)
                yield wire.accepted(
                    self._worker_id, call.skill.version, call.skill.cache_version, is_attached=is_attached
                )
                async for message in _told(listener, changed, heartbeat_s(request)):
                    yield wire.response_of(message)

    async def ExecuteMany(  # noqa: N802
        self, request_iterator: AsyncIterator[skill_runner_pb2.ExecuteManyRequest], context: Context
    ) -> AsyncIterator[skill_runner_pb2.ExecuteManyResponse]:
        """Many calls' messages, each call's from `accepted` to its outcome."""
        await self._check_caller(context)
        if self._is_stopping:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The runner is stopping")
        await context.send_initial_metadata(_UNDERSTOOD)
        stream = CallStream(self._skills, self._registry, worker_id=self._worker_id, grace_s=self._grace_s)
        self._streams.add(stream)
        reading = anyio.CancelScope()

        def lose(_: object) -> None:
            self._streams.discard(stream)
            reading.cancel()
            stream.lose()

        context.add_done_callback(lose)  # type: ignore[arg-type]
        self._registry.spawn(_read(stream, request_iterator, reading))
        async for batch in stream.batches():
            yield batch
        if stream.problem is not None:
            await _refuse(stream.problem, context)

    def end_streams(self) -> None:
        """Streams of many calls end once their calls have; new ones are refused."""
        self._is_stopping = True
        for stream in self._streams:
            stream.end()

    async def _check_caller(self, context: Context) -> None:
        if self._token is None:
            return
        shown = _metadata(context, "authorization")
        if not hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "A valid bearer token is required")


async def _told(listener: Listener, changed: asyncio.Event, interval_s: float) -> AsyncIterator[CallMessage]:
    """Whatever the call says, heartbeats in silence, and last the outcome."""
    while True:
        changed.clear()
        for message in listener.pending():
            yield message
        if listener.is_told:
            return
        with anyio.move_on_after(interval_s):
            await changed.wait()
        if not changed.is_set():
            yield HEARTBEAT


async def _read(
    stream: CallStream, requests: AsyncIterator[skill_runner_pb2.ExecuteManyRequest], scope: anyio.CancelScope
) -> None:
    with scope:
        try:
            await stream.read(requests)
        except Exception:
            # The boundary of one stream: a defect here must not end the calls of others.
            _log.exception("Stream of calls broke")
            stream.end()


def _metadata(context: Context, name: str) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""


async def _refuse(refused: RequestRefusedError, context: Context) -> NoReturn:
    trailers: tuple[tuple[str, bytes], ...] = ()
    if refused.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(refused.retry_after_s * 1e9))
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=delay))
        status = Status(code=refused.status.value[0], message=refused.message, details=[detail])
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(refused.status, refused.message, trailing_metadata=trailers)
    raise AssertionError("abort raises")
