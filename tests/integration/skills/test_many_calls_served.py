"""Many calls on one stream, as the SDK's server answers them: each as Execute would, none waiting for another."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc
import pytest

from runengine_client.pb.runengine.v1 import skill_runner_pb2 as pb
from runengine_client.pb.runengine.v1 import skill_runner_pb2_grpc
from runengine_client.skills import AsyncSkillContext, LedgerEvent, SkillServer, SkillServerLimits, skill

pytestmark = pytest.mark.anyio


def _asked(call_id: int, skill_id: str = "t.work", /, *, given: bytes = b"{}", **fields: Any) -> pb.ExecuteManyCall:
    request = pb.ExecuteRequest(
        skill_id=skill_id,
        idempotency_key=f"k{call_id}",
        run_id="run",
        step_id="step",
        attempt=1,
        fencing_token=1,
        input_json=given,
        input_hash=hashlib.sha256(given).hexdigest(),
        tenant="acme",
    )
    request.deadline.GetCurrentTime()  # a clock that is wrong: it has passed already
    request.heartbeat_interval.FromMilliseconds(100)
    return pb.ExecuteManyCall(call_id=call_id, request=request, metadata={"grpc-timeout": "20S"}, **fields)


@asynccontextmanager
async def _stream_to(server: SkillServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stream = skill_runner_pb2_grpc.SkillRunnerServiceStub(channel).ExecuteMany()
        try:
            yield stream
        finally:
            stream.cancel()


async def _ask(stream: Any, *calls: pb.ExecuteManyCall) -> None:
    await stream.write(pb.ExecuteManyRequest(calls=calls))


async def _kinds(stream: Any, call_id: int, last: str) -> list[str]:
    """What one call says, up to the first message of this kind."""
    kinds: list[str] = []
    with anyio.fail_after(10):
        while kinds[-1:] != [last]:
            answer = await stream.read()
            assert answer is not grpc.aio.EOF
            kinds += [m.response.WhichOneof("kind") for m in answer.messages if m.call_id == call_id]
    return kinds


async def test_server_tells_what_execute_would(server: SkillServer, workshop: Any) -> None:
    """A call is accepted, heard of, kept alive and answered; the stream ends after the engine has closed its side."""
    async with _stream_to(server) as stream:
        await _ask(stream, _asked(1))
        kinds = await _kinds(stream, 1, "heartbeat")
        assert kinds[0] == "accepted" and {"artifact", "progress"} <= set(kinds)
        await stream.done_writing()
        workshop.release.set()
        assert (await _kinds(stream, 1, "result"))[-1] == "result"
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK


async def test_server_cancels_at_once(server: SkillServer, workshop: Any) -> None:
    """`cancel` stops a call without a grace period, and the stream goes on."""
    async with _stream_to(server) as stream:
        await _ask(stream, _asked(1))
        await _kinds(stream, 1, "progress")
        await _ask(stream, pb.ExecuteManyCall(call_id=1, cancel=True), pb.ExecuteManyCall(call_id=9, cancel=True))
        with anyio.fail_after(5):
            await workshop.cancelled.wait()
        workshop.release.set()
        await _ask(stream, _asked(2))
        await _kinds(stream, 2, "result")


async def test_cancel_spares_a_later_lease(server: SkillServer, workshop: Any) -> None:
    """A call that a later lease has joined goes on when the first engine cancels it."""
    later = _asked(2)
    later.request.idempotency_key, later.request.fencing_token = "k1", 2
    async with _stream_to(server) as first, _stream_to(server) as second:
        await _ask(first, _asked(1))
        await _kinds(first, 1, "progress")
        await _ask(second, later)
        await _kinds(second, 2, "progress")
        await _ask(first, pb.ExecuteManyCall(call_id=1, cancel=True), _asked(3))
        await _kinds(first, 3, "accepted")
        workshop.release.set()
        await _kinds(second, 2, "result")
    assert not workshop.cancelled.is_set()


async def test_used_call_id_ends_the_stream(server: SkillServer) -> None:
    """A call_id that is in use is refused with the stream, whose calls go on as those of a lost engine."""
    async with _stream_to(server) as stream:
        await _ask(stream, _asked(1), _asked(1))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            while True:
                await stream.read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert server.ledger.count(LedgerEvent.FAILED) == 0


async def test_bad_call_fails_alone(server: SkillServer, workshop: Any) -> None:
    """Requests that cannot be run fail with their status as a message, and their neighbours run."""
    workshop.release.set()
    broken = _asked(2)
    broken.request.input_hash = "0" * 64
    async with _stream_to(server) as stream:
        await _ask(stream, _asked(1, "t.nothing"), broken, _asked(3), pb.ExecuteManyCall(call_id=4))
        said: dict[int, pb.ExecuteResponse] = {}
        while len(said) < 4 or not said[3].HasField("result"):
            said |= {message.call_id: message.response for message in (await stream.read()).messages}
    statuses = {key: said[key].failure.details["grpcStatus"] for key in (1, 2, 4)}
    assert statuses == {1: "NOT_FOUND", 2: "INVALID_ARGUMENT", 4: "NOT_FOUND"}


async def test_no_call_waits_for_a_large_one(make_server: Any) -> None:
    """Thirty outputs of 1 MiB and a hundred small ones arrive whole, in messages below the contract's limit."""

    @skill("t.work", max_concurrency=0)
    async def work(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        return {"text": "x" * given["size"]}

    sizes = [(1 << 20) - 100] * 30 + [10] * 100
    calls = [_asked(n + 1, given=json.dumps({"size": size}).encode()) for n, size in enumerate(sizes)]
    async with make_server(skills=[work]) as server, _stream_to(server) as stream:
        await _ask(stream, *calls)
        received: dict[int, int] = {}
        with anyio.fail_after(20):
            while len(received) < len(sizes):
                answer = await stream.read()
                assert answer.ByteSize() < 3 << 20
                for message in answer.messages:
                    if message.response.HasField("result"):
                        received[message.call_id] = len(json.loads(message.response.result.output_json)["text"])
    assert [received[n + 1] for n in range(len(sizes))] == sizes


async def test_stopping_server_ends_idle_streams(make_server: Any, workshop: Any) -> None:
    """A server that stops ends streams without calls at once, with UNAVAILABLE, instead of waiting for them."""
    server = make_server(limits=SkillServerLimits(drain_s=30))
    await server.start()
    workshop.release.set()
    async with _stream_to(server) as stream:
        await _ask(stream, _asked(1))
        await _kinds(stream, 1, "result")
        async with anyio.create_task_group() as group:
            group.start_soon(server.stop)
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stream.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ended.value.details() == "The runner is stopping"
