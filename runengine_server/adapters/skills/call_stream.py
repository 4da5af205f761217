"""Many calls on one ExecuteMany stream: a table of calls, one task that writes, one that reads, one alarm clock.

What is to be sent waits as references to calls, and is written as requests when the stream takes them: whatever came
together while one batch was written is the next one. Reading never waits for a call.

A call that is not listened to any more is *left*, as cancelling an Execute leaves it: a runner that keeps the calls of
lost engines keeps it for its grace period, in which the next attempt joins it; other runners cancel it.
"""

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.lowlevel
import grpc

from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc
from runengine_server.adapters.skills.call_reader import CallReader, ProtocolError
from runengine_server.adapters.skills.execute_request import CallMetadata, write_request
from runengine_server.adapters.skills.silence import SILENT_INTERVALS_MAX, fell_silent, not_accepted
from runengine_server.adapters.skills.status_failures import lost_with, refused_with
from runengine_server.ports.skill_runner import Outcome, ProgressListener, SkillCall

# A batch is closed once it is this large: with a last input of 1 MiB it stays below the contract's 3 MiB.
_BATCH_BYTES: Final = 1 << 20
_REQUEST_BYTES: Final = 512
# Without calls for so long the stream ends: pings on a silent one are punished by gRPC servers in other languages.
IDLE_S: Final = 10.0
# How often to look whether the runner is there: waiting for a change of state cannot be cancelled in grpc.aio.
_LOOK_AGAIN_S: Final = 0.02

# Beside `cancel`, for runners that know it: the engine only stops listening, as if it were lost.
LEAVE_METADATA: Final = "runengine-leave"


class NotSentError(Exception):
    """The stream ended before the call was sent on it: nothing was started, another stream may take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """What the calls of one runner have in common; times in seconds."""

    channel: grpc.aio.Channel
    stub: "skill_runner_pb2_grpc.SkillRunnerServiceAsyncStub"
    metadata: tuple[tuple[str, str], ...]
    call_metadata: CallMetadata
    heartbeat_interval_s: float
    accepted_within_s: float
    cancel_metadata: str


class _OpenCall:
    """A call that is waited for; `heard_at` is its last message, on the loop's clock, None before `accepted`."""

    __slots__ = ("accept_by", "call", "call_id", "ends_at", "heard_at", "is_sent", "outcome", "reader")

    def __init__(self, call: SkillCall, reader: CallReader, outcome: asyncio.Future[Outcome]) -> None:
        self.call = call
        self.reader = reader
        self.outcome = outcome
        self.call_id = 0
        self.is_sent = False
        self.heard_at: float | None = None
        self.ends_at = 0.0
        self.accept_by = 0.0


@dataclass(frozen=True, slots=True)
class _Left:
    """To be told: the call with this id is not listened to any more."""

    call_id: int


@dataclass(frozen=True, slots=True)
class _Unwanted:
    """To be told: nobody wants the call with this key any more."""

    call: SkillCall


class CallStream:
    """One stream; `run` it in a task of its own, `execute` calls on it while `is_open`."""

    def __init__(self, settings: StreamSettings) -> None:
        """Prepare the stream; nothing is sent yet."""
        self.is_open = True
        self.understands_cancel = False
        self.ended_with: grpc.aio.AioRpcError | None = None
        self._settings = settings
        self._silence_s = settings.heartbeat_interval_s * SILENT_INTERVALS_MAX
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, _OpenCall] = {}
        self._outbox: deque[_OpenCall | _Left | _Unwanted] = deque()
        self._bell = asyncio.Event()
        self._last_id = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._was_idle = False
        self._scope = anyio.CancelScope()

    async def execute(self, call: SkillCall, on_progress: ProgressListener, *, accept_by: float) -> Outcome:
        """Run one attempt to its end; cancelling the task leaves the call.

        Args:
            call: the attempt.
            on_progress: told of its progress.
            accept_by: when the runner must have accepted it, on the loop's clock.

        Raises:
            NotSentError: the stream ended before; nothing was started.
        """
        opened = _OpenCall(call, CallReader(on_progress), self._loop.create_future())
        self._last_id += 1
        opened.call_id = self._last_id
        opened.ends_at = self._loop.time() + call.timeout_s
        opened.accept_by = min(opened.ends_at, accept_by)
        self._open[opened.call_id] = opened
        self._was_idle = False
        self._send(opened)
        if opened.accept_by < self._alarm_at:
            self._set_alarm(opened.accept_by)
        try:
            return await opened.outcome
        finally:
            if self._open.pop(opened.call_id, None) is not None:
                self._leave(opened)

    def abandon(self, call: SkillCall) -> None:
        """Nobody wants a call any more that was left: its runner will be told."""
        self._send(_Unwanted(call))

    async def run(self) -> None:
        """The stream is over, and so is every call that was open on it."""
        settings = self._settings
        # A runner that restarts is waited for: each call has its own limit for that.
        rpc = settings.stub.ExecuteMany(metadata=settings.metadata, wait_for_ready=True)
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._write, rpc)
                    await self._read(rpc)
                    group.cancel_scope.cancel()
        finally:
            self.is_open = False
            rpc.cancel()
            self._end()

    async def _write(self, rpc: "_Rpc") -> None:
        while not rpc.done():
            self._bell.clear()
            if not self._outbox:
                await self._bell.wait()
            elif self._settings.channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
                # What gRPC holds for a runner that is away cannot be taken back when nobody wants it any more.
                await anyio.sleep(_LOOK_AGAIN_S)
            elif (batch := self._batch()).calls:
                try:
                    await rpc.write(batch)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    return  # the reader says with which status it ended

    async def _read(self, rpc: "_Rpc") -> None:
        """Hear everything until the stream ends; `ended_with` says how, unless with OK."""
        is_first = True
        try:
            while isinstance(answer := await rpc.read(), skill_runner_pb2.ExecuteManyResponse):
                if is_first:
                    self.understands_cancel = self._settings.cancel_metadata in (await rpc.initial_metadata() or ())
                    is_first = False
                now = self._loop.time()
                for message in answer.messages:
                    if opened := self._open.get(message.call_id):
                        self._hear(opened, message.response, now)
        except grpc.aio.AioRpcError as problem:
            self.ended_with = problem
        except asyncio.CancelledError:
            # Of a stream that has not begun gRPC tells a cancellation in an error of its own. A scope takes that for
            # somebody else's: let out, it ends every task group on its way, and with them the engine.
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise

    def _hear(self, opened: _OpenCall, response: skill_runner_pb2.ExecuteResponse, now: float) -> None:
        reader = opened.reader
        try:
            if opened.heard_at is None and response.HasField("failure"):
                self._settle(opened, refused_with(response.failure, opened.call, reader))
                return
            reader.take(response)
        except ProtocolError as problem:
            self._leave(opened)
            self._settle(opened, reader.broken(problem))
            return
        if opened.heard_at is None and now + self._silence_s < self._alarm_at:
            self._set_alarm(now + self._silence_s)
        opened.heard_at = now
        if reader.outcome is not None:
            self._settle(opened, reader.outcome)

    def _settle(self, opened: _OpenCall, outcome: Outcome) -> None:
        self._open.pop(opened.call_id, None)
        if not opened.outcome.done():
            opened.outcome.set_result(outcome)

    def _leave(self, opened: _OpenCall) -> None:
        if opened.is_sent:  # otherwise it never will be
            self._send(_Left(opened.call_id))

    def _send(self, item: "_OpenCall | _Left | _Unwanted") -> None:
        self._outbox.append(item)
        self._bell.set()

    def _batch(self) -> skill_runner_pb2.ExecuteManyRequest:
        batch = skill_runner_pb2.ExecuteManyRequest()
        now, size = self._loop.time(), 0
        while self._outbox and size < _BATCH_BYTES:
            match self._outbox.popleft():
                case _OpenCall() as opened if opened.call_id in self._open:
                    asked = batch.calls.add(call_id=opened.call_id)
                    self._ask(asked, opened.call, timeout_s=max(0.001, opened.ends_at - now))
                    opened.is_sent = True
                    size += len(opened.call.input_json) + _REQUEST_BYTES
                case _OpenCall():
                    pass  # left before it was sent
                case _Left(call_id):
                    batch.calls.add(call_id=call_id, cancel=True, metadata={LEAVE_METADATA: "requested"})
                case _Unwanted(call):
                    self._last_id += 1
                    self._ask(batch.calls.add(call_id=self._last_id, cancel=True), call, timeout_s=0.0)
                    size += len(call.input_json) + _REQUEST_BYTES
        return batch

    def _ask(self, asked: skill_runner_pb2.ExecuteManyCall, call: SkillCall, *, timeout_s: float) -> None:
        write_request(
            asked.request, call, timeout_s=timeout_s, heartbeat_interval_s=self._settings.heartbeat_interval_s
        )
        # The deadline as Execute tells it, which is right where clocks differ.
        asked.metadata["grpc-timeout"] = _timeout(timeout_s)
        for name, value in self._settings.call_metadata(call):
            asked.metadata[name] = value

    # -- the alarm clock: one for all calls, set to when the first of them may be due, or the stream has been idle

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = None if at == math.inf else self._loop.call_at(at, self._check_silence)

    def _check_silence(self) -> None:
        now, next_at = self._loop.time(), math.inf
        for opened in tuple(self._open.values()):
            due_at = self._due_at(opened)
            if due_at > now:
                next_at = min(next_at, due_at)
                continue
            self._leave(opened)
            self._settle(opened, self._silent(opened, is_late=now >= opened.ends_at))
        if not self._open:
            if self._was_idle:
                self.is_open = False
                self._scope.cancel()
                return
            self._was_idle = True
            next_at = now + IDLE_S
        self._set_alarm(next_at)

    def _due_at(self, opened: _OpenCall) -> float:
        if opened.heard_at is None:
            return opened.accept_by
        return min(opened.ends_at, opened.heard_at + self._silence_s)

    def _silent(self, opened: _OpenCall, *, is_late: bool) -> Outcome:
        if opened.heard_at is None:
            within_s = min(self._settings.accepted_within_s, opened.call.timeout_s)
            return not_accepted(self._settings.channel, within_s)
        return fell_silent(opened.reader.worker_id, is_late=is_late)

    def _end(self) -> None:
        """No call waits any more: those that were sent have lost their runner, the others have not been started."""
        if self._alarm is not None:
            self._alarm.cancel()
        has_runner = self.ended_with is None or self.ended_with.code() is not grpc.StatusCode.UNIMPLEMENTED
        for opened in tuple(self._open.values()):
            if opened.is_sent and has_runner:
                self._settle(opened, lost_with(self.ended_with, opened.call, opened.reader))
            elif not opened.outcome.done():
                del self._open[opened.call_id]
                opened.outcome.set_exception(NotSentError())


_Rpc = grpc.aio.StreamStreamCall[skill_runner_pb2.ExecuteManyRequest, skill_runner_pb2.ExecuteManyResponse]


def _timeout(seconds: float) -> str:
    """As gRPC's own header has it: at most eight digits and a unit."""
    return f"{math.ceil(seconds * 1000)}m" if seconds < 10_000 else f"{min(99_999_999, math.ceil(seconds))}S"
