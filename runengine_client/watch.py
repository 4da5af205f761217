"""Follows a run to its end across lost connections, stalls and restarts, without missing or repeating an event."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import grpc
import grpc.aio

from runengine_client import conversion, states, watch_conversion
from runengine_client.errors import (
    InternalError,
    NotFoundError,
    RunEngineError,
    UnavailableError,
    WatchBrokenError,
    decode_rpc_error,
)
from runengine_client.pb.runengine.v1 import event_pb2, run_engine_pb2
from runengine_client.retry import Backoff, Sleep
from runengine_client.types import Step
from runengine_client.watch_items import RunEnded, RunSnapshot, WatchItem

OpenWatch = Callable[
    [run_engine_pb2.WatchRunRequest],
    "grpc.aio.UnaryStreamCall[run_engine_pb2.WatchRunRequest, run_engine_pb2.WatchRunResponse]",
]

HEARTBEAT_S_DEFAULT = 15.0
SILENT_HEARTBEATS_MAX = 3
"""A stream that stays silent for three heartbeats is dead, whatever TCP says."""

CONNECT_DEFAULT = Backoff()
RESUME_DEFAULT = Backoff(attempts_max=60)
"""Sixty tries are about four minutes: longer than a restart or a failover, shorter than a forgotten terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """A watch lost its stream and will resume: why, which try in a row this is, and after how many seconds."""

    error: RunEngineError
    attempt: int
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """How a watch behaves.

    Attributes:
        after_sequence: start after this event; None starts with a snapshot.
        include_progress: whether to get what running skills report.
        step_ids: only these steps' events; empty means all.
        heartbeat_s: how often the server speaks when nothing happens, 5 to 60 seconds.
        silence_s_max: silence after which the stream is given up; None means three heartbeats.
        connect: bounds the tries to reach a server at first.
        resume: bounds the tries in a row that bring nothing new.
        on_interrupted: told about every interruption, before the delay.
    """

    after_sequence: int | None = None
    include_progress: bool = False
    step_ids: Sequence[str] = ()
    heartbeat_s: float = HEARTBEAT_S_DEFAULT
    silence_s_max: float | None = None
    connect: Backoff = CONNECT_DEFAULT
    resume: Backoff = RESUME_DEFAULT
    on_interrupted: Callable[[Interruption], None] | None = None


@dataclass(slots=True)
class WatchCursor:
    """What has been seen of a run; turns messages into items and refuses gaps."""

    run_id: str
    sequence: int | None
    is_filtered: bool = False
    is_ended: bool = False
    _parts: list[Step] = field(default_factory=list)

    def restart(self) -> None:
        """Forget the parts of a snapshot that a lost stream did not finish."""
        self._parts.clear()

    def accept(self, message: run_engine_pb2.WatchRunResponse) -> Iterator[WatchItem]:
        """The items a message brings, each as soon as the cursor stands behind it.

        Raises:
            WatchBrokenError: events are missing before this message.
        """
        match message.WhichOneof("kind"):
            case "snapshot":
                yield from self._snapshot(message)
            case "events":
                yield from self._events(message)
            case "bookmark":
                self._confirm(message.sequence)
            case "end":
                self._confirm(message.sequence)
                self.is_ended = True
                yield RunEnded(sequence=self.sequence or 0, run=conversion.run(message.end.run))
            case _:
                return  # a kind newer than this client

    def _snapshot(self, message: run_engine_pb2.WatchRunResponse) -> Iterator[RunSnapshot]:
        snapshot = message.snapshot
        self._parts.extend(conversion.step(step) for step in snapshot.steps)
        if snapshot.more:
            return
        if self.sequence is not None and message.sequence < self.sequence:
            raise self._broken(f"a snapshot at {message.sequence} after event {self.sequence}")
        self.sequence = message.sequence
        steps = tuple(self._parts)
        self._parts.clear()
        yield RunSnapshot(
            sequence=message.sequence,
            run=conversion.run(snapshot.run),
            steps=steps,
            reason=conversion.required(states.SnapshotReason, event_pb2.SnapshotReason, snapshot.reason),
        )

    def _events(self, message: run_engine_pb2.WatchRunResponse) -> Iterator[WatchItem]:
        for event in message.events.events:
            if event.sequence == 0:
                yield watch_conversion.event(event)
                continue
            seen = self._seen()
            if event.sequence <= seen:
                continue
            if event.sequence > seen + 1 and not self.is_filtered:
                raise self._broken(f"event {event.sequence} after event {seen}")
            self.sequence = event.sequence
            yield watch_conversion.event(event)
        self._confirm(message.sequence)

    def _confirm(self, sequence: int) -> None:
        if sequence <= self._seen():
            return
        if not self.is_filtered:
            raise self._broken(f"the server stands at {sequence} and the last event was {self._seen()}")
        self.sequence = sequence

    def _seen(self) -> int:
        if self.sequence is None:
            raise self._broken("an event before the snapshot")
        return self.sequence

    def _broken(self, what: str) -> WatchBrokenError:
        return WatchBrokenError("WATCH_GAP", f"The watch of run {self.run_id} is not contiguous: {what}")


async def watch_run(
    open_watch: OpenWatch, run_id: str, options: WatchOptions, *, sleep: Sleep = anyio.sleep
) -> AsyncIterator[WatchItem]:
    """Every item of a run until it ends, once and in order; resumes by itself.

    Args:
        open_watch: starts one WatchRun call.
        run_id: the run.
        options: see there.
        sleep: for tests.

    Raises:
        NotFoundError: no such run.
        UnavailableError: no server answered within the bounds of the options.
        WatchBrokenError: the server left out an event.
    """
    cursor = WatchCursor(run_id, options.after_sequence, is_filtered=bool(options.step_ids))
    attempt = 0
    is_connected = False
    while not cursor.is_ended:
        error: RunEngineError | None = None
        cursor.restart()
        stream = _Stream(open_watch(_request(run_id, cursor, options)), options)
        try:
            while (message := await stream.receive()) is not None:
                before = cursor.sequence
                for item in cursor.accept(message):
                    yield item
                if cursor.is_ended:
                    return
                # The first message only repeats what is known: a server that dies right after it is no progress.
                if cursor.sequence != before or stream.received > 1:
                    attempt = 0
                is_connected = True
        except grpc.aio.AioRpcError as rpc_error:
            error = decode_rpc_error(rpc_error)
        except TimeoutError:
            error = UnavailableError("WATCH_SILENT", f"The watch of run {run_id} fell silent")
        finally:
            stream.close()
        error = error or UnavailableError("WATCH_ENDED_EARLY", f"The watch of run {run_id} ended before the run did")
        attempt += 1
        backoff = options.resume if is_connected else options.connect
        if not _is_resumable(error) or attempt >= backoff.attempts_max:
            raise error
        delay_s = backoff.delay_s(attempt, error.retry_after_s)
        if options.on_interrupted is not None:
            options.on_interrupted(Interruption(error=error, attempt=attempt, delay_s=delay_s))
        await sleep(delay_s)


class _Stream:
    """One WatchRun call, given up when it stays silent."""

    def __init__(
        self,
        call: "grpc.aio.UnaryStreamCall[run_engine_pb2.WatchRunRequest, run_engine_pb2.WatchRunResponse]",
        options: WatchOptions,
    ) -> None:
        self._call = call
        self._messages = aiter(call)
        self._silence_s_max = options.silence_s_max or options.heartbeat_s * SILENT_HEARTBEATS_MAX
        self.received = 0

    async def receive(self) -> run_engine_pb2.WatchRunResponse | None:
        """The next message; None when the call ended with OK, TimeoutError after too long a silence."""
        with anyio.fail_after(self._silence_s_max):
            async for message in self._messages:
                self.received += 1
                return message
        return None

    def close(self) -> None:
        """Let the server forget the call."""
        self._call.cancel()


def _request(run_id: str, cursor: WatchCursor, options: WatchOptions) -> run_engine_pb2.WatchRunRequest:
    request = run_engine_pb2.WatchRunRequest(
        run_id=run_id,
        after_sequence=cursor.sequence,
        include_progress=options.include_progress,
        step_ids=options.step_ids,
    )
    request.heartbeat_interval.FromTimedelta(timedelta(seconds=options.heartbeat_s))
    return request


def _is_resumable(error: RunEngineError) -> bool:
    """True when a new stream may succeed: nobody answered, the stream was reset, or we were too slow for it."""
    if isinstance(error, NotFoundError):
        return False
    is_reset = isinstance(error, InternalError) and not error.is_from_server
    return isinstance(error, UnavailableError) or is_reset or error.reason == "WATCH_STALLED"
