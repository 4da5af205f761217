"""Many calls on one stream: admits what the engine asks for, and batches what the calls say.

What a call says is read from the call itself when the stream can be written to, so that nothing queues up behind a
slow engine: there is a table of calls with something to say, and an iterator for each. Whatever has come together
while one batch is written is the next one.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final

import grpc

from runengine_client.pb.runengine.v1 import skill_runner_pb2
from runengine_client.skills import wire
from runengine_client.skills.call_registry import Attached, CallRegistry, Replayed, Started
from runengine_client.skills.definition import Skill
from runengine_client.skills.listener import HEARTBEAT, Listener
from runengine_client.skills.orders import RequestRefusedError, admit, heartbeat_s, read_order, skill_of
from runengine_client.skills.running_call import CallOrder, RunningCall

# A batch is closed once it is this large: with a last message of little more than 1 MiB it stays below 3 MiB.
_BATCH_BYTES: Final = 1 << 20
# Calls with something to say, refusals included, beyond which nothing more is read from the engine.
_TALKING_MAX: Final = 4000

LEAVE_METADATA: Final = "runengine-leave"
TIMEOUT_METADATA: Final = "grpc-timeout"
_TIMEOUT_UNITS_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

Response = skill_runner_pb2.ExecuteResponse


@dataclass(slots=True)
class _Heard:
    """A call that the engine listens to on this stream."""

    order: CallOrder
    call: RunningCall
    listener: Listener


class CallStream:
    """One ExecuteMany; `read` what the engine asks and `batches` of what it is told run side by side."""

    def __init__(self, skills: Mapping[str, Skill], registry: CallRegistry, *, worker_id: str, grace_s: float) -> None:
        """Serve the skills.

        Args:
            skills: by id.
            registry: where calls live.
            worker_id: what `accepted` says.
            grace_s: how long a call outlives its last engine, seconds.
        """
        self._loop = asyncio.get_running_loop()
        self.problem: RequestRefusedError | None = None
        self._skills = skills
        self._registry = registry
        self._worker_id = worker_id
        self._grace_s = grace_s
        self._heard: dict[int, _Heard] = {}
        self._talking: dict[int, Iterator[Response]] = {}
        self._bell = asyncio.Event()
        self._written = asyncio.Event()
        self._is_closing = False
        self._beat_s = math.inf
        self._beat_timer: asyncio.TimerHandle | None = None
        self._told: set[int] = set()

    async def read(self, requests: AsyncIterable[skill_runner_pb2.ExecuteManyRequest]) -> None:
        """Everything the engine asked for has been admitted or refused, until it closed its side."""
        try:
            async for request in requests:
                for call in request.calls:
                    self._take(call)
                self._bell.set()
                while len(self._talking) > _TALKING_MAX:
                    self._written.clear()
                    await self._written.wait()
        except RequestRefusedError as problem:
            self.problem = problem
            self.lose()
        finally:
            self._is_closing = True
            self._bell.set()

    async def batches(self) -> AsyncIterator[skill_runner_pb2.ExecuteManyResponse]:
        """What the calls say, until the engine has closed its side, or the server stops, and every call has ended."""
        while True:
            self._bell.clear()
            if messages := self._batch():
                yield skill_runner_pb2.ExecuteManyResponse(messages=messages)
                self._written.set()
            elif self._is_closing and not self._heard:
                return
            else:
                await self._bell.wait()

    def end(self) -> None:
        """The server stops: the stream ends with UNAVAILABLE once every call has ended."""
        self.problem = RequestRefusedError(grpc.StatusCode.UNAVAILABLE, "The runner is stopping")
        self._is_closing = True
        self._bell.set()

    def lose(self) -> None:
        """The stream is gone: its calls have lost an engine."""
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        for heard in self._heard.values():
            heard.call.leave(heard.listener, self._grace_s)
        self._heard.clear()
        self._talking.clear()
        self._is_closing = True
        self._written.set()
        self._bell.set()

    def _take(self, asked: skill_runner_pb2.ExecuteManyCall) -> None:
        call_id = asked.call_id
        if asked.cancel:
            self._cancel(asked)
            return
        if call_id in self._heard or call_id in self._talking:
            raise RequestRefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"call_id {call_id} is used twice")
        try:
            self._talking[call_id] = iter(self._admit(call_id, asked))
        except RequestRefusedError as refused:
            self._talking[call_id] = iter((wire.refused(refused.status, refused.message, refused.retry_after_s),))

    def _admit(self, call_id: int, asked: skill_runner_pb2.ExecuteManyCall) -> Iterable[Response]:
        request, metadata = asked.request, asked.metadata
        skill = skill_of(request, self._skills)
        order = read_order(
            request,
            skill,
            remaining_s=_seconds_of(metadata.get(TIMEOUT_METADATA, "")),
            traceparent=metadata.get("traceparent", ""),
            tracestate=metadata.get("tracestate", ""),
        )
        admission = admit(self._registry, order, skill)
        match admission:
            case Replayed(finished=finished):
                return wire.replay(self._worker_id, finished)
            case Started(call=call) | Attached(call=call):
                listener = call.listen(partial(self._wake, call_id))
                self._heard[call_id] = _Heard(order, call, listener)
                self._keep_beating(heartbeat_s(request))
                is_attached = isinstance(admission, Attached)
                version, cache_version = call.skill.version, call.skill.cache_version
                first = wire.accepted(self._worker_id, version, cache_version, is_attached=is_attached)
                return chain((first,), map(wire.response_of, listener.pending()))

    def _cancel(self, asked: skill_runner_pb2.ExecuteManyCall) -> None:
        """The engine does not listen any more; unless it only leaves, nobody wants the call, or the one it names.

        A later lease that has joined the call keeps it.
        """
        heard = self._heard.pop(asked.call_id, None)
        self._talking.pop(asked.call_id, None)
        if asked.HasField("request"):
            with contextlib.suppress(RequestRefusedError):
                skill = skill_of(asked.request, self._skills)
                self._registry.abandon(read_order(asked.request, skill, remaining_s=0.0))
        if heard is not None:
            if LEAVE_METADATA not in asked.metadata:
                self._registry.abandon(heard.order)
            heard.call.leave(heard.listener, self._grace_s)

    def _wake(self, call_id: int) -> None:
        if call_id not in self._talking and (heard := self._heard.get(call_id)):
            self._talking[call_id] = map(wire.response_of, heard.listener.pending())
            self._bell.set()

    def _batch(self) -> list[skill_runner_pb2.ExecuteManyMessage]:
        """What is to be said now, calls in turn; one whose words do not fit goes on in the next batch."""
        messages: list[skill_runner_pb2.ExecuteManyMessage] = []
        size = 0
        while self._talking and size < _BATCH_BYTES:
            call_id = next(iter(self._talking))
            words = self._talking.pop(call_id)
            for response in words:
                messages.append(skill_runner_pb2.ExecuteManyMessage(call_id=call_id, response=response))
                size += response.ByteSize()
                if size >= _BATCH_BYTES:
                    self._talking[call_id] = words
                    break
            else:
                self._said_all(call_id)
        return messages

    def _said_all(self, call_id: int) -> None:
        heard = self._heard.get(call_id)
        if heard is None:
            return
        self._told.add(call_id)
        if heard.listener.is_told:
            del self._heard[call_id]
            heard.call.leave(heard.listener, self._grace_s)

    def _keep_beating(self, interval_s: float) -> None:
        """Twice an interval is looked who has been silent, so that nobody is for longer than the interval."""
        if interval_s / 2 < self._beat_s:
            if self._beat_timer is not None:
                self._beat_timer.cancel()
            self._beat_s = interval_s / 2
            self._beat_timer = self._loop.call_later(self._beat_s, self._beat)

    def _beat(self) -> None:
        for call_id, heard in self._heard.items():
            if call_id not in self._told and call_id not in self._talking:
                pending = map(wire.response_of, heard.listener.pending())
                self._talking[call_id] = chain((wire.response_of(HEARTBEAT),), pending)
        self._told.clear()
        if self._heard:
            self._bell.set()
            self._beat_timer = self._loop.call_later(self._beat_s, self._beat)
        else:
            self._beat_s, self._beat_timer = math.inf, None


def _seconds_of(timeout: str) -> float | None:
    """The seconds of gRPC's own header, such as 1500m; None where it is missing or cannot be read."""
    unit_s = _TIMEOUT_UNITS_S.get(timeout[-1:])
    return int(timeout[:-1]) * unit_s if unit_s is not None and timeout[:-1].isdecimal() else None
