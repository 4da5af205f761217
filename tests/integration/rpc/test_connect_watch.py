"""WatchRun over Connect and gRPC-Web: message by message, and every way a stream ends."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from google.protobuf.json_format import Parse

from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_server.domain import errors
from runengine_server.service.messages import WatchBookmark, WatchEnd, WatchSnapshot

from ...support.connect_calls import CONTENT_TYPES, CallEnd, envelope, read_stream
from .conftest import NOW, RUN, RUN_ID
from .connect import ENGINE, ConnectCaller, connect_caller
from .test_watch import Flood, Script, message, progress, within

pytestmark = pytest.mark.anyio

PROTOCOLS = pytest.mark.parametrize("protocol", ["connect", "grpc-web", "grpc-web-text"])


@pytest.fixture
async def caller(served) -> ConnectCaller:
    return await connect_caller(served)


@PROTOCOLS
async def test_each_message_arrives_when_it_is_sent(caller, served, protocol):
    """Messages arrive one by one while the stream is open; at the end of the run it ends well."""
    next_one = asyncio.Event()

    async def watch(request):
        yield message(1, WatchSnapshot(run=RUN, steps=(), reason="INITIAL", more=False))
        await next_one.wait()
        yield message(2, progress("half"))
        yield message(3, WatchEnd(run=RUN))

    served.services.watch = watch
    async with caller.watching(protocol, run_id=RUN_ID) as messages:
        first = await within(anext(messages))
        assert (first.sequence, first.snapshot.run.id) == (1, RUN_ID)
        next_one.set()
        second, last, end = [each async for each in messages]
    assert second.events.events[0].progress.message == "half"
    assert (last.sequence, last.WhichOneof("kind")) == (3, "end")
    assert end == CallEnd(code="ok")
    await served.until_watches(0)


async def test_json(caller, served):
    """A watch in JSON tells the same as one in protobuf, as proto3 JSON."""
    served.services.watch = Script(message(1, progress("half")), message(2, WatchEnd(run=RUN)))
    body = envelope("connect-json", b'{"runId":"%s","afterSequence":"0"}' % RUN_ID.encode())
    headers = {"authorization": "Bearer all", "content-type": CONTENT_TYPES["connect-json"]}
    async with caller.http.stream("POST", f"{ENGINE}/WatchRun", headers=headers, content=body) as answer:
        first, last, end = [each async for each in read_stream("connect-json", answer)]
    assert Parse(first, pb.WatchRunResponse()).events.events[0].progress.message == "half"
    assert Parse(last, pb.WatchRunResponse()).end.run.id == RUN_ID
    assert end.code == "ok"
    assert served.services.watch.requests[0].after_sequence == 0


@PROTOCOLS
async def test_a_refusal_ends_the_stream(caller, served, protocol):
    """What the use case refuses, and what nobody foresaw, is told at the end of the stream."""
    served.services.error = errors.NotFoundError("RUN_NOT_FOUND", "no such run", metadata={"runId": "x"})
    async with caller.watching(protocol, run_id="x") as messages:
        (end,) = [each async for each in messages]
    assert end == CallEnd(code="not_found", message="no such run", reason="RUN_NOT_FOUND", metadata={"runId": "x"})
    served.services.error = KeyError("secret")
    async with caller.watching(protocol, run_id="x") as messages:
        (end,) = [each async for each in messages]
    assert (end.code, end.reason) == ("internal", "INTERNAL")


@PROTOCOLS
async def test_who_may_not_watch(caller, protocol):
    """Without a token a stream ends before anything of it is parsed; text that cannot be stored is refused."""
    async with caller.watching(protocol, token=None, run_id="\0") as messages:
        assert [each.reason async for each in messages] == ["TOKEN_MISSING"]
    async with caller.watching(protocol, run_id="a\0b") as messages:
        assert [each.reason async for each in messages] == ["VALIDATION_FAILED"]


async def test_a_stream_ends_with_its_token(caller, served):
    """A stream ends when its token expires, and says how far it came."""
    served.services.watch = script = Script(message(5, WatchBookmark(server_time=NOW)))
    async with caller.watching("connect", token="short", run_id=RUN_ID) as messages:
        assert (await within(anext(messages))).sequence == 5
        served.now[0] = NOW + timedelta(seconds=1)
        end = await within(anext(messages))
    assert (end.code, end.reason, end.metadata["lastSequence"]) == ("unauthenticated", "TOKEN_INVALID", "5")
    await within(script.closed.wait())


@PROTOCOLS
async def test_a_server_that_stops_ends_streams(caller, served, protocol):
    """While the server drains every stream ends with DRAINING and the sequence to go on from."""
    served.services.watch = Script(message(7, WatchBookmark(server_time=NOW)))
    async with caller.watching(protocol, run_id=RUN_ID) as messages:
        await within(anext(messages))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(served.server.drain(5))
            end = await within(anext(messages))
    assert (end.code, end.reason, end.metadata["lastSequence"]) == ("unavailable", "DRAINING", "7")


async def test_a_reader_that_leaves_closes_its_watch(caller, served):
    """The use case's watch ends when the browser closes the page, though nothing happens in the run."""
    served.services.watch = script = Script(message(1, WatchBookmark(server_time=NOW)))
    async with caller.watching("connect", run_id=RUN_ID) as messages:
        await within(anext(messages))
        assert served.server.watches.open_count == 1
    await within(script.closed.wait())
    await served.until_watches(0)


@PROTOCOLS
async def test_a_reader_that_stalls_is_cut_off(serve, caplog, protocol):
    """A reader that takes nothing for the timeout frees its place, and finds its stream without an end."""
    served = await serve(watch_write_timeout_s=0.4)
    caller = await connect_caller(served)
    served.services.watch = flood = Flood()
    async with caller.watching(protocol, run_id=RUN_ID) as messages:
        await within(anext(messages))
        await served.until_watches(0)
        await within(flood.closed.wait())
        assert flood.sent < 1_000  # back-pressure held
        with pytest.raises(httpx.RemoteProtocolError):
            while not isinstance(await within(anext(messages)), CallEnd):
                pass
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_watches_are_counted_with_those_of_grpc(serve):
    """The limit of a tenant's watches is one for all surfaces."""
    served = await serve(watches_per_tenant_max=1)
    caller = await connect_caller(served)
    served.services.watch = Script(message(1, WatchBookmark(server_time=NOW)))
    call = (await served.engine()).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    await call.read()
    async with caller.watching("connect", run_id=RUN_ID) as messages:
        end = await within(anext(messages))
        assert (end.code, end.reason) == ("resource_exhausted", "TOO_MANY_WATCHES")
    async with caller.watching("connect", token="other", run_id=RUN_ID) as messages:
        assert (await within(anext(messages))).sequence == 1
    call.cancel()


async def test_a_deadline_ends_a_stream(caller, served):
    """A stream whose client wanted it for a time only ends then."""
    served.services.watch = script = Script(message(1, WatchBookmark(server_time=NOW)))
    headers = {
        "authorization": "Bearer all",
        "content-type": CONTENT_TYPES["connect"],
        "connect-timeout-ms": "200",
    }
    body = envelope("connect", pb.WatchRunRequest(run_id=RUN_ID).SerializeToString())
    async with caller.http.stream("POST", f"{ENGINE}/WatchRun", headers=headers, content=body) as answer:
        *_, end = [each async for each in read_stream("connect", answer)]
    assert end.code == "deadline_exceeded"
    await within(script.closed.wait())
