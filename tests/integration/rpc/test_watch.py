"""WatchRun: what is sent, and every way a stream ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest
from grpc import StatusCode

from runengine_client.pb.runengine.v1 import event_pb2, run_engine_pb2_grpc
from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_server.domain import errors
from runengine_server.domain.events import RunEvent, RunStatusChanged, StepProgress, StepStatusChanged
from runengine_server.domain.ids import StepId
from runengine_server.domain.states import OutputSource, RunStatus, StepStatus
from runengine_server.service.messages import (
    ToldEvent,
    WatchBookmark,
    WatchEnd,
    WatchEvents,
    WatchMessage,
    WatchRequest,
    WatchSnapshot,
)

from .conftest import NOW, RUN, RUN_ID, SUMMARY
from .refusals import details_of, refused

pytestmark = pytest.mark.anyio


def message(sequence: int, kind: object) -> WatchMessage:
    return WatchMessage(run_id=RUN_ID, sequence=sequence, kind=kind)


def batch(*events: RunEvent) -> WatchEvents:
    return WatchEvents(told=tuple(map(ToldEvent, events)))


def progress(text: str) -> WatchEvents:
    detail = StepProgress(fraction=0.5, message=text, reported_at=NOW)
    return batch(RunEvent(sequence=0, occurred_at=NOW, detail=detail, step_id=StepId("a")))


class Script:
    """A watch that sends messages, then waits; says when it was closed."""

    def __init__(self, *messages: WatchMessage) -> None:
        self.messages = messages
        self.closed = asyncio.Event()
        self.requests: list[WatchRequest] = []

    async def __call__(self, request: WatchRequest) -> AsyncIterator[WatchMessage]:
        self.requests.append(request)
        try:
            for each in self.messages:
                yield each
            if not self.messages or not isinstance(self.messages[-1].kind, WatchEnd):
                await asyncio.Event().wait()
        finally:
            self.closed.set()


async def within(awaitable, seconds: float = 5.0):
    async with asyncio.timeout(seconds):
        return await awaitable


async def test_a_watch_delivers_everything_and_ends_with_ok(served):
    """Snapshot, events, bookmark and end arrive in order with their resume tokens; then the stream is OK."""
    served.services.watch = Script(
        message(1, WatchSnapshot(run=RUN, steps=(), reason="INITIAL", more=False)),
        message(
            3,
            batch(
                RunEvent(
                    sequence=2,
                    occurred_at=NOW,
                    detail=RunStatusChanged(
                        from_status=RunStatus.QUEUED, to_status=RunStatus.RUNNING, steps_summary=SUMMARY
                    ),
                ),
                RunEvent(
                    sequence=3,
                    occurred_at=NOW,
                    step_id=StepId("a"),
                    attempt=1,
                    detail=StepStatusChanged(
                        from_status=StepStatus.RUNNING,
                        to_status=StepStatus.COMPLETED,
                        steps_summary=SUMMARY,
                        output_source=OutputSource.EXECUTED,
                        duration_ms=5234,
                    ),
                ),
            ),
        ),
        message(3, WatchBookmark(server_time=NOW)),
        message(4, WatchEnd(run=RUN)),
    )
    call = (await served.engine()).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    received = [each async for each in call]
    assert [(each.sequence, each.WhichOneof("kind")) for each in received] == [
        (1, "snapshot"),
        (3, "events"),
        (3, "bookmark"),
        (4, "end"),
    ]
    assert received[0].snapshot.reason == event_pb2.SNAPSHOT_REASON_INITIAL
    assert [each.type for each in received[1].events.events] == [
        event_pb2.RUN_EVENT_TYPE_RUN_STATUS,
        event_pb2.RUN_EVENT_TYPE_STEP_STATUS,
    ]
    assert received[1].events.events[1].step.duration_ms == 5234
    assert await call.code() is StatusCode.OK
    await within(served.services.watch.closed.wait())
    await served.until_watches(0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, 15.0), ({"heartbeat_interval": {"seconds": 6}}, 6.0)],
)
async def test_what_a_watch_asks_for(served, fields, expected):
    """The heartbeat interval defaults to 15 s; after_sequence 0 is not the same as none."""
    served.services.watch = Script(message(1, WatchEnd(run=RUN)))
    engine = await served.engine()
    async for _ in engine.WatchRun(pb.WatchRunRequest(run_id=RUN_ID, after_sequence=0, **fields)):
        pass
    async for _ in engine.WatchRun(pb.WatchRunRequest(run_id=RUN_ID, **fields)):
        pass
    with_zero, without = served.services.watch.requests
    assert (with_zero.heartbeat_interval_s, with_zero.after_sequence) == (expected, 0)
    assert without.after_sequence is None


async def test_a_refusal_of_the_use_case_ends_the_stream(served):
    """What the use case raises is the stream's status, also after messages."""

    async def watch(request: WatchRequest) -> AsyncIterator[WatchMessage]:
        yield message(7, WatchBookmark(server_time=NOW))
        raise errors.UnavailableError("DATABASE_UNAVAILABLE", "no database")

    served.services.watch = watch
    call = (await served.engine()).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    assert (await call.read()).sequence == 7
    error, details = await refused(call.read())
    assert (error.code(), details["ErrorInfo"].reason) == (StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")


async def test_ok_without_end_never_happens(served):
    """A use case that stops without `end` makes an INTERNAL error, not an OK that a client takes for the end."""

    async def watch(request: WatchRequest) -> AsyncIterator[WatchMessage]:
        yield message(7, WatchBookmark(server_time=NOW))

    served.services.watch = watch
    call = (await served.engine()).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    await call.read()
    error, _ = await refused(call.read())
    assert error.code() is StatusCode.INTERNAL


async def test_a_client_that_leaves_closes_its_watch(served):
    """Cancelling the call closes the use case's stream and frees the place."""
    served.services.watch = script = Script(message(1, WatchBookmark(server_time=NOW)))
    call = (await served.engine()).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    await call.read()
    assert served.server.watches.open_count == 1
    call.cancel()
    await within(script.closed.wait())
    await served.until_watches(0)


class Flood:
    """Sends large messages as fast as they are taken; counts them and says when it was closed."""

    def __init__(self) -> None:
        self.sent = 0
        self.closed = asyncio.Event()

    async def __call__(self, request: WatchRequest) -> AsyncIterator[WatchMessage]:
        try:
            while True:
                self.sent += 1
                yield message(self.sent, progress("x" * 100_000))
        finally:
            self.closed.set()


@pytest.mark.parametrize("reads_on", [True, False], ids=["reads on at once", "reads on after the server gave up"])
async def test_a_reader_that_stalls_is_ended(serve, reads_on):
    """A write blocked for the timeout ends the watch: its place is free, and a reader that goes on is told where.

    The messages gRPC had taken come first; the sequence in the status is not beyond what was received.
    """
    served = await serve(watch_write_timeout_s=0.4)
    served.services.watch = flood = Flood()
    call = (await served.engine()).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    first = await call.read()
    await served.until_watches(0)  # a stalled write frees the place before anything else
    assert flood.sent < 1_000  # 100 MB: back-pressure held
    if not reads_on:
        await within(flood.closed.wait())  # nobody took the status either: the call's task was cancelled
    received = [first.sequence]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while (each := await within(call.read())) is not grpc.aio.EOF:
            received.append(each.sequence)
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    info = details_of(caught.value)["ErrorInfo"]
    assert info.reason == "WATCH_STALLED"
    assert received == list(range(1, len(received) + 1))
    assert 1 <= int(info.metadata["lastSequence"]) <= received[-1]
    await within(flood.closed.wait())


async def test_a_reader_that_stalls_at_the_first_message_is_ended(serve, caplog):
    """A first message that is not taken ends the watch like any other, without a sequence to resume from.

    The call ends as well when the use case has nothing more to say, and gRPC finds nothing to complain of.
    """
    served = await serve(watch_write_timeout_s=0.4)
    served.services.watch = script = Script(message(1, progress("x" * 20_000_000)))
    channel = await served.channel("all", **{"grpc.max_receive_message_length": -1})
    call = run_engine_pb2_grpc.RunEngineStub(channel).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    await call.initial_metadata()
    await served.until_watches(1)
    await served.until_watches(0)
    assert (await within(call.read())).sequence == 1
    error, details = await within(refused(call.read()))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "lastSequence" not in details["ErrorInfo"].metadata
    await within(script.closed.wait())
    await served.server.drain(5)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_a_slow_reader_that_goes_on_is_not_ended(serve):
    """Pauses shorter than the timeout do not end a watch, however many there are."""
    served = await serve(watch_write_timeout_s=1.0)
    served.services.watch = flood = Flood()
    call = (await served.engine()).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    for _ in range(3):
        blocked_at = -1
        while blocked_at != flood.sent:  # until gRPC takes no more
            blocked_at = flood.sent
            await asyncio.sleep(0.1)
        for _ in range(100):
            await call.read()
    assert served.server.watches.open_count == 1
    call.cancel()
    await within(flood.closed.wait())


async def test_a_stream_ends_with_its_token(served):
    """A stream ends UNAUTHENTICATED when its token expires, with the last sequence; by the wall clock."""
    served.services.watch = script = Script(message(5, WatchBookmark(server_time=NOW)))
    call = (await served.engine("short")).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    await call.read()
    served.now[0] = NOW + timedelta(seconds=1)
    error, details = await within(refused(call.read()))
    assert error.code() is StatusCode.UNAUTHENTICATED
    assert details["ErrorInfo"].reason == "TOKEN_INVALID"
    assert details["ErrorInfo"].metadata["lastSequence"] == "5"
    await within(script.closed.wait())


async def test_a_token_already_expired_ends_the_stream_at_once(served):
    """A token that expired between its check and the stream's start delivers nothing."""
    served.now[0] = NOW + timedelta(seconds=1)
    served.services.watch = Script(message(5, WatchBookmark(server_time=NOW)))
    error, _ = await within(refused((await served.engine("short")).WatchRun(pb.WatchRunRequest(run_id=RUN_ID)).read()))
    assert error.code() is StatusCode.UNAUTHENTICATED


async def test_watches_are_limited_per_server_and_tenant(serve):
    """Beyond the limits a watch is TOO_MANY_WATCHES; a place that gets free can be taken; unary calls go on."""
    served = await serve(watches_max=3, watches_per_tenant_max=2)
    served.services.watch = Script(message(1, WatchBookmark(server_time=NOW)))
    acme, globex = await served.engine("all"), await served.engine("other")
    calls = [stub.WatchRun(pb.WatchRunRequest(run_id=RUN_ID)) for stub in (acme, acme)]
    for call in calls:
        await call.read()
    error, details = await refused(acme.WatchRun(pb.WatchRunRequest(run_id=RUN_ID)).read())
    assert (error.code(), details["ErrorInfo"].reason) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES")
    assert details["QuotaFailure"].violations[0].subject == "tenant"

    third = globex.WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    await third.read()
    error, details = await refused(globex.WatchRun(pb.WatchRunRequest(run_id=RUN_ID)).read())
    assert details["QuotaFailure"].violations[0].subject == "server"
    await acme.GetRun(pb.GetRunRequest(run_id=RUN_ID))

    calls[0].cancel()
    await served.until_watches(2)
    again = acme.WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    assert (await again.read()).sequence == 1
