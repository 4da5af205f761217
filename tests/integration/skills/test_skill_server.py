"""What a skill server keeps on its own: limits, deadlines, refusals, draining."""

import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import anyio
import anyio.lowlevel
import grpc
import pytest

from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc
from runengine_client.skills import (
    LedgerEvent,
    SkillContext,
    SkillServer,
    SkillServerLimits,
    doubly_started,
    skill,
)
from runengine_server.adapters.skills.grpc_runner import GrpcSkillRunner
from runengine_server.adapters.skills.targets import parse_endpoint
from runengine_server.ports.skill_runner import Failed, SkillCall, Succeeded

pytestmark = pytest.mark.anyio
CallFactory = Callable[..., SkillCall]


def _ignore(fraction: float, message: str, reported_at: datetime) -> None:
    return


def _request(key: str = "k", **changes: Any) -> skill_runner_pb2.ExecuteRequest:
    input_json = b"{}"
    request = skill_runner_pb2.ExecuteRequest(
        skill_id="t.work",
        idempotency_key=key,
        run_id="run",
        step_id="step",
        attempt=1,
        fencing_token=1,
        input_json=input_json,
        input_hash=hashlib.sha256(input_json).hexdigest(),
        tenant="acme",
    )
    request.heartbeat_interval.FromMilliseconds(50)
    for name, value in changes.items():
        setattr(request, name, value)
    return request


@pytest.fixture
async def stub(server: SkillServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield skill_runner_pb2_grpc.SkillRunnerServiceStub(channel)


async def test_accepted_comes_before_a_free_slot(
    make_server: Any, make_engine: Any, workshop: Any, make_call: CallFactory, until: Any
) -> None:
    """Calls beyond max_concurrency are accepted at once and kept alive, run when a slot is free, and never more."""
    async with make_server(skills=[workshop.skill(max_concurrency=2)]) as server, make_engine(server) as engine:
        outcomes: list[Any] = []

        async def run(key: str) -> None:
            outcomes.append(await engine.execute(make_call(idempotency_key=key), _ignore))

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(run, f"k{number}")
            await until(lambda: workshop.running == 2)
            async with grpc.aio.insecure_channel(server.address) as channel:
                waiting = skill_runner_pb2_grpc.SkillRunnerServiceStub(channel).Execute(_request("waiting"))
                assert (await waiting.read()).WhichOneof("kind") == "accepted"
                assert (await waiting.read()).WhichOneof("kind") == "heartbeat"
                waiting.cancel()
            workshop.release.set()
        assert all(isinstance(outcome, Succeeded) for outcome in outcomes)
        assert workshop.running_max == 2


async def test_calls_are_logged(stub: Any, workshop: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Start and end of a call are logged with run, step, attempt and the trace that the engine's call belongs to."""
    caplog.set_level("INFO", logger="runengine.skills")
    workshop.release.set()
    metadata = (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)
    async for _ in stub.Execute(_request(attempt=2), metadata=metadata):
        pass
    what = "skillId=t.work, runId=run, stepId=step, attempt=2, traceId=4bf92f3577b34da6a3ce929d0e0e4736"
    started, ended = [record.getMessage() for record in caplog.records if "runId=" in record.getMessage()]
    assert started == f"Skill started: {what}"
    assert ended.startswith(f"Skill ended: {what}, durationMs=")
    assert ended.endswith(", outcome=OK")


async def test_silence_is_filled_with_heartbeats(stub: Any, workshop: Any) -> None:
    """A call with nothing to say sends heartbeats at the interval that was asked for."""
    call = stub.Execute(_request())
    kinds = [(await call.read()).WhichOneof("kind") for _ in range(6)]
    assert kinds[0] == "accepted"
    assert kinds[-2:] == ["heartbeat", "heartbeat"]
    workshop.release.set()
    kinds = [message.WhichOneof("kind") async for message in _rest(call)]
    assert kinds[-1] == "result"
    assert await call.code() is grpc.StatusCode.OK


async def _rest(call: Any) -> AsyncIterator[Any]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"input_hash": "0" * 64}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"input_json": b"[]", "input_hash": hashlib.sha256(b"[]").hexdigest()}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"idempotency_key": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"skill_id": "t.nothing"}, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_unusable_request_is_refused(
    stub: Any, server: SkillServer, change: dict[str, Any], status: grpc.StatusCode
) -> None:
    """A request that cannot be run is refused with its status, and nothing starts."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Execute(_request(**change)).read()
    assert refused.value.code() is status
    assert server.ledger.records == ()


async def test_full_server_says_when_to_come_back(
    make_server: Any, make_engine: Any, workshop: Any, make_call: CallFactory
) -> None:
    """Beyond calls_max a call is refused; the engine learns that it may try again, and when."""
    limits = SkillServerLimits(calls_max=1, drain_s=0.05)
    async with make_server(limits=limits) as server, make_engine(server) as engine, anyio.create_task_group() as group:
        group.start_soon(engine.execute, make_call(), _ignore)
        await workshop.started.wait()
        refused = await engine.execute(make_call({"b": 1}), _ignore)
        assert isinstance(refused, Failed)
        assert (refused.failure.code, refused.failure.retryable) == ("SKILL_UNAVAILABLE", True)
        assert refused.retry_after_s == 1.0
        workshop.release.set()


async def test_token_is_required(make_server: Any, workshop: Any, make_call: CallFactory) -> None:
    """A server with a token runs nothing, and lists nothing, for callers without it."""
    workshop.release.set()
    async with make_server(token="right") as server:
        endpoint = parse_endpoint(f"grpc://{server.address}")
        async with GrpcSkillRunner(endpoint, token="wrong") as stranger:
            refused = await stranger.execute(make_call(), _ignore)
            assert isinstance(refused, Failed)
            assert refused.failure.details == {"grpcStatus": "UNAUTHENTICATED"}
            assert not await stranger.refresh()
        async with GrpcSkillRunner(endpoint, token="right") as friend:
            assert isinstance(await friend.execute(make_call(), _ignore), Succeeded)
            assert await friend.refresh()


async def test_timed_out_thread_is_never_overtaken(make_server: Any, make_engine: Any, make_call: CallFactory) -> None:
    """A thread that ignores its timeout keeps its call: the next attempt waits for it instead of running beside it."""
    release, running = threading.Event(), threading.Semaphore(1)

    @skill("t.work", max_concurrency=2)
    def stubborn(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        assert running.acquire(blocking=False), "two at a time"
        try:
            release.wait(20)
        finally:
            running.release()
        return {"attempt": context.attempt}

    async with make_server(skills=[stubborn]) as server, make_engine(server) as engine:
        first = await engine.execute(make_call(timeout_s=0.3), _ignore)
        assert isinstance(first, Failed) and first.failure.code == "SKILL_TIMEOUT"
        waiting = await engine.execute(make_call(attempt=2, timeout_s=0.3), _ignore)
        assert isinstance(waiting, Failed) and waiting.failure.code == "SKILL_TIMEOUT"
        assert server.ledger.count(LedgerEvent.STARTED) == 1
        release.set()
        last = await engine.execute(make_call(attempt=3), _ignore)
        assert isinstance(last, Succeeded) and last.output_json == b'{"attempt":3}'
        assert not doubly_started(server.ledger.records)


async def test_stopping_server_finishes_what_is_awaited(
    make_server: Any, make_engine: Any, workshop: Any, make_call: CallFactory, until: Any
) -> None:
    """A stopping server lets running calls end, refuses new ones as UNAVAILABLE, and cuts off what takes too long."""
    limits = SkillServerLimits(drain_s=10)
    server = make_server(limits=limits)
    await server.start()
    async with make_engine(server) as engine, anyio.create_task_group() as group:
        outcomes: list[Any] = []

        async def run() -> None:
            outcomes.append(await engine.execute(make_call(), _ignore))

        group.start_soon(run)
        await workshop.started.wait()

        async def release_when_refusing() -> None:
            async def is_refusing() -> bool:
                late = await engine.execute(make_call({"late": 1}), _ignore)
                return isinstance(late, Failed) and late.failure.details == {"grpcStatus": "UNAVAILABLE"}

            with anyio.fail_after(5):
                while not await is_refusing():
                    await anyio.lowlevel.checkpoint()
            workshop.release.set()

        group.start_soon(release_when_refusing)
        await anyio.lowlevel.checkpoint()
        await server.stop()
    assert [type(outcome) for outcome in outcomes] == [Succeeded]


@pytest.mark.parametrize("address", ["7001", ":7001", "127.0.0.1", "127.0.0.1:", ""])
async def test_address_that_is_none(address: str, make_server: Any) -> None:
    """What is no host:port is told what one looks like, and not that it is public."""
    with pytest.raises(ValueError, match=f"^'{address}' is no address: write host:port"):
        make_server(address=address)


async def test_public_plaintext_is_refused(make_server: Any) -> None:
    """A server that is not on loopback needs TLS and a token, or an explicit word."""
    with pytest.raises(ValueError, match="not loopback"):
        make_server(address="0.0.0.0:0", token="secret")
    make_server(address="0.0.0.0:0", is_plaintext_allowed=True)
