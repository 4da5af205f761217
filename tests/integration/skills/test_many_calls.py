"""Many calls on one stream, as the engine makes them: what a broken stream costs, and what the wire carries."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any

import anyio
import grpc
import pytest

from runengine_client.pb.runengine.v1 import skill_runner_pb2 as pb
from runengine_client.pb.runengine.v1 import skill_runner_pb2_grpc
from runengine_client.skills import AsyncSkillContext, skill
from runengine_server.adapters.skills import call_stream
from runengine_server.adapters.skills.grpc_runner import GrpcSkillRunner
from runengine_server.adapters.skills.targets import parse_endpoint
from runengine_server.ports.skill_runner import Failed, Outcome, SkillCall, Succeeded

pytestmark = pytest.mark.anyio
CallFactory = Callable[..., SkillCall]

_ACCEPTED = pb.ExecuteResponse(accepted=pb.ExecuteAccepted(worker_id="fake", skill_version="1"))
_RESULT = pb.ExecuteResponse(result=pb.ExecuteResult(output_json=b'{"a":1}'))


def _ignore(fraction: float, message: str, reported_at: datetime) -> None:
    return


def _says(call_id: int, *responses: pb.ExecuteResponse) -> pb.ExecuteManyResponse:
    messages = [pb.ExecuteManyMessage(call_id=call_id, response=response) for response in responses]
    return pb.ExecuteManyResponse(messages=messages)


class FakeRunner(skill_runner_pb2_grpc.SkillRunnerServiceServicer):
    """A runner whose streams the test plays: each ExecuteMany is answered by the next part, Execute with a result."""

    def __init__(self, *parts: Callable[[AsyncIterator[pb.ExecuteManyCall], Any], AsyncIterator[Any]]) -> None:
        self._parts = list(parts)
        self.streams = 0
        self.alone = 0
        self.result = _RESULT
        self.supports_many = True

    async def ListSkills(self, request: pb.ListSkillsRequest, context: Any) -> pb.ListSkillsResponse:  # noqa: N802
        return pb.ListSkillsResponse(skills=[pb.Skill(skill_id="t.work")], supports_many=self.supports_many)

    async def Execute(self, request: pb.ExecuteRequest, context: Any) -> AsyncIterator[pb.ExecuteResponse]:  # noqa: N802
        self.alone += 1
        yield _ACCEPTED
        yield self.result

    async def ExecuteMany(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ExecuteManyRequest], context: Any
    ) -> AsyncIterator[pb.ExecuteManyResponse]:
        self.streams += 1
        async for answer in self._parts.pop(0)(_calls(request_iterator), context):
            yield answer


async def _calls(requests: AsyncIterator[pb.ExecuteManyRequest]) -> AsyncIterator[pb.ExecuteManyCall]:
    async for request in requests:
        for asked in request.calls:
            yield asked


async def _obliging(calls: AsyncIterator[pb.ExecuteManyCall], context: Any) -> AsyncIterator[Any]:
    async for asked in calls:
        yield _says(asked.call_id, _ACCEPTED, _RESULT)


@asynccontextmanager
async def _served(fake: FakeRunner, port: int = 0) -> AsyncIterator[int]:
    """The runner answers on this port, by default a free one."""
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)])
    skill_runner_pb2_grpc.add_SkillRunnerServiceServicer_to_server(fake, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def _engine_of(fake: FakeRunner, **options: Any) -> AsyncIterator[GrpcSkillRunner]:
    async with (
        _served(fake) as port,
        GrpcSkillRunner(parse_endpoint(f"grpc://127.0.0.1:{port}"), heartbeat_interval_s=0.3, **options) as runner,
    ):
        await runner.wait_until_asked()
        yield runner


async def _outcomes(engine: GrpcSkillRunner, calls: list[SkillCall]) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}

    async def run(number: int, call: SkillCall) -> None:
        outcomes[number] = await engine.execute(call, _ignore)

    async with anyio.create_task_group() as group:
        for number, call in enumerate(calls):
            group.start_soon(run, number, call)
    return [outcomes[number] for number in range(len(calls))]


def _code(outcome: Outcome) -> tuple[str, bool]:
    assert isinstance(outcome, Failed), outcome
    return outcome.failure.code, outcome.failure.retryable


async def test_calls_share_one_stream(make_call: CallFactory) -> None:
    """A hundred calls at once and one after them travel on one stream, in few messages."""
    batches = 0

    async def counting(calls: Any, context: Any) -> AsyncIterator[Any]:
        nonlocal batches
        async for asked in calls:
            batches += 1
            yield _says(asked.call_id, _ACCEPTED, _RESULT)

    fake = FakeRunner(counting)
    async with _engine_of(fake) as engine:
        outcomes = await _outcomes(engine, [make_call({"n": n}) for n in range(100)])
        outcomes += await _outcomes(engine, [make_call({"n": 100})])
    assert all(isinstance(outcome, Succeeded) for outcome in outcomes)
    assert (fake.streams, fake.alone, batches) == (1, 0, 101)


async def test_broken_stream_fails_its_calls_only(make_call: CallFactory) -> None:
    """Calls open on a stream that breaks fail as SKILL_UNAVAILABLE, retryable; the next goes on a new stream."""

    async def breaks(calls: Any, context: Any) -> AsyncIterator[Any]:
        seen = 0
        async for asked in calls:
            seen += 1
            if seen == 1:
                yield _says(asked.call_id, _ACCEPTED, _RESULT)
            if seen == 3:
                await context.abort(grpc.StatusCode.INTERNAL, "internal address 10.0.0.7")

    fake = FakeRunner(breaks, _obliging)
    async with _engine_of(fake) as engine:
        first, *broken = await _outcomes(engine, [make_call({"n": n}) for n in range(3)])
        later = await engine.execute(make_call({"n": 3}), _ignore)
    assert isinstance(first, Succeeded) and isinstance(later, Succeeded)
    assert [_code(outcome) for outcome in broken] == [("SKILL_UNAVAILABLE", True)] * 2
    assert all("10.0.0.7" not in str(outcome) for outcome in broken)
    assert fake.streams == 2


async def test_stream_that_ends_early_is_a_protocol_error(make_call: CallFactory) -> None:
    """OK at the end of a stream that owes outcomes breaks the contract."""

    async def ends(calls: Any, context: Any) -> AsyncIterator[Any]:
        asked = await anext(calls)
        yield _says(asked.call_id, _ACCEPTED)

    async with _engine_of(FakeRunner(ends)) as engine:
        assert _code(await engine.execute(make_call(), _ignore)) == ("SKILL_PROTOCOL_ERROR", True)


async def test_idle_stream_ends(make_call: CallFactory, monkeypatch: pytest.MonkeyPatch, until: Any) -> None:
    """A stream without calls is closed after a while, and the next call opens another."""
    monkeypatch.setattr(call_stream, "IDLE_S", 0.05)
    ended = 0

    async def waits(calls: Any, context: Any) -> AsyncIterator[Any]:
        nonlocal ended
        try:
            async for asked in calls:
                yield _says(asked.call_id, _ACCEPTED, _RESULT)
        finally:
            ended += 1

    fake = FakeRunner(waits, _obliging)
    async with _engine_of(fake, accepted_within_s=0.2) as engine:
        assert isinstance(await engine.execute(make_call({"n": 1}), _ignore), Succeeded)
        await until(lambda: ended == 1)
        assert isinstance(await engine.execute(make_call({"n": 2}), _ignore), Succeeded)
    assert (fake.streams, fake.alone) == (2, 0)


@pytest.mark.parametrize("shares_stream", [True, False], ids=["shared", "alone"])
async def test_calls_of_a_runner_that_is_away_end_alone(
    make_call: CallFactory, monkeypatch: pytest.MonkeyPatch, until: Any, shares_stream: bool
) -> None:
    """What gRPC cancels before it began ends nothing else: calls fail while their runner is away, and then succeed."""
    monkeypatch.setattr(call_stream, "IDLE_S", 0.05)
    is_over = False
    async with AsyncExitStack() as stack:
        async with _served(FakeRunner()) as port:
            endpoint = parse_endpoint(f"grpc://127.0.0.1:{port}")
            engine = await stack.enter_async_context(
                GrpcSkillRunner(endpoint, accepted_within_s=0.2, shares_stream=shares_stream)
            )
            await engine.wait_until_asked()
        for _ in range(3):  # each on a stream of its own, as the one before has been idle
            assert _code(await engine.execute(make_call(), _ignore)) == ("SKILL_UNAVAILABLE", True)
            await until(lambda: engine._stream is None or not engine._stream.is_open)
        async with _served(FakeRunner(*[_obliging] * 3), port):
            with anyio.fail_after(20):
                while not isinstance(await engine.execute(make_call(), _ignore), Succeeded):
                    pass
        is_over = True
    assert is_over, "this block was cancelled, as an engine would be"


async def test_a_stream_that_breaks_ends_alone(make_call: CallFactory) -> None:
    """A defect while calls are written fails the calls of that stream; those of the next one succeed."""
    is_broken, is_over = True, False

    def metadata(call: SkillCall) -> tuple[tuple[str, str], ...]:
        if is_broken:
            raise RuntimeError("nobody expected this")
        return ()

    async with _engine_of(FakeRunner(*[_obliging] * 3), call_metadata=metadata) as engine:
        assert _code(await engine.execute(make_call(), _ignore))[0] == "SKILL_PROTOCOL_ERROR"
        is_broken = False
        assert isinstance(await engine.execute(make_call(), _ignore), Succeeded)
        is_over = True
    assert is_over, "this block was cancelled, as an engine would be"


async def test_runner_without_many_is_called_one_by_one(make_call: CallFactory) -> None:
    """Where ListSkills does not offer it, or a runner cannot do what it offered, Execute is used, and no call fails."""

    async def cannot(calls: Any, context: Any) -> AsyncIterator[Any]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "single calls only")
        yield

    liar, honest = FakeRunner(cannot), FakeRunner()
    honest.supports_many = False
    for fake, streams in ((liar, 1), (honest, 0)):
        async with _engine_of(fake) as engine:
            assert isinstance(await engine.execute(make_call(), _ignore), Succeeded)
            assert isinstance(await engine.execute(make_call(), _ignore), Succeeded)
        assert (fake.streams, fake.alone) == (streams, 2)


async def test_message_that_no_stream_can_carry_breaks_one_only(make_call: CallFactory) -> None:
    """A message beyond gRPC's limit ends one shared stream; from then on each call has its own, and is named."""
    output = b'{"a":"' + b"x" * (9 << 20) + b'"}'
    large = pb.ExecuteResponse(result=pb.ExecuteResult(output_json=output))

    async def floods(calls: Any, context: Any) -> AsyncIterator[Any]:
        async for asked in calls:
            yield _says(asked.call_id, _ACCEPTED, large)

    fake = FakeRunner(floods)
    fake.result = large
    async with _engine_of(fake) as engine:
        assert _code(await engine.execute(make_call(), _ignore)) == ("SKILL_UNAVAILABLE", True)
        assert _code(await engine.execute(make_call(), _ignore)) == ("OUTPUT_TOO_LARGE", False)
    assert (fake.streams, fake.alone) == (1, 1)


async def test_refusal_is_read_as_its_status(make_call: CallFactory) -> None:
    """A failure before `accepted` that names a status is that status, with its delay; one that names none is none."""

    async def refuses(calls: Any, context: Any) -> AsyncIterator[Any]:
        failure = pb.ExecuteFailure(code="SOMETHING", message="10.0.0.7", retryable=False)
        failure.retry_after.FromSeconds(7)
        failure.details["grpcStatus"] = "RESOURCE_EXHAUSTED"
        yield _says((await anext(calls)).call_id, pb.ExecuteResponse(failure=failure))
        failure.details["grpcStatus"] = "NO_STATUS"
        yield _says((await anext(calls)).call_id, pb.ExecuteResponse(failure=failure))

    async with _engine_of(FakeRunner(refuses)) as engine:
        full = await engine.execute(make_call(), _ignore)
        broken = await engine.execute(make_call(), _ignore)
    assert _code(full) == ("SKILL_UNAVAILABLE", True)
    assert isinstance(full, Failed) and full.retry_after_s == 7.0
    assert full.failure.details == {"grpcStatus": "RESOURCE_EXHAUSTED"}
    assert "10.0.0.7" not in full.failure.message
    assert _code(broken) == ("SKILL_PROTOCOL_ERROR", True)


async def test_call_that_was_never_sent_is_not_sent_later(make_call: CallFactory, until: Any) -> None:
    """A call that is cancelled while its runner is away never reaches it; what is cancelled later is told."""
    seen: list[pb.ExecuteManyCall] = []

    async def notes(calls: Any, context: Any) -> AsyncIterator[Any]:
        async for asked in calls:
            seen.append(asked)
            if not asked.cancel:
                yield _says(asked.call_id, _ACCEPTED)

    async with _engine_of(FakeRunner(notes)) as engine, anyio.create_task_group() as group:
        with anyio.move_on_after(0):
            await engine.execute(make_call({"never": 1}), _ignore)
        group.start_soon(engine.execute, make_call({"n": 1}), _ignore)
        await until(lambda: len(seen) == 1)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await until(lambda: len(seen) == 2)
    asked, left = seen
    assert json.loads(asked.request.input_json) == {"n": 1}
    assert (left.call_id, left.cancel, dict(left.metadata)) == (asked.call_id, True, {"runengine-leave": "requested"})


async def test_call_that_expired_is_not_sent_to_a_runner_that_comes_back(make_call: CallFactory) -> None:
    """While a runner is away calls give up in time, and when it is back it is asked for what is still wanted only."""
    seen: list[bytes] = []

    async def notes(calls: Any, context: Any) -> AsyncIterator[Any]:
        async for asked in calls:
            seen.append(asked.request.input_json)
            yield _says(asked.call_id, _ACCEPTED, _RESULT)

    async with AsyncExitStack() as stack:
        async with _served(FakeRunner()) as port:
            endpoint = parse_endpoint(f"grpc://127.0.0.1:{port}")
            engine = await stack.enter_async_context(GrpcSkillRunner(endpoint, accepted_within_s=0.3))
            await engine.wait_until_asked()
        expired = await engine.execute(make_call({"n": 1}), _ignore)
        await stack.enter_async_context(_served(FakeRunner(*[notes] * 5), port))
        later: Outcome = expired
        with anyio.fail_after(10):
            while isinstance(later, Failed):
                later = await engine.execute(make_call({"n": 2}), _ignore)
    assert _code(expired) == ("SKILL_UNAVAILABLE", True)
    assert set(seen) == {b'{"n": 2}'}


async def test_call_carries_its_metadata_and_time(make_call: CallFactory) -> None:
    """A call brings what Execute has as metadata: its trace, and the time it has left, whatever the clocks say."""
    seen: list[pb.ExecuteManyCall] = []

    async def notes(calls: Any, context: Any) -> AsyncIterator[Any]:
        async for asked in calls:
            seen.append(asked)
            yield _says(asked.call_id, _ACCEPTED, _RESULT)

    async with _engine_of(FakeRunner(notes), call_metadata=lambda call: (("traceparent", call.step_id),)) as engine:
        await engine.execute(make_call(timeout_s=20.0), _ignore)
        await engine.execute(make_call(timeout_s=86_400.0 * 30), _ignore)
    assert [asked.metadata["traceparent"] for asked in seen] == ["step", "step"]
    assert [asked.metadata["grpc-timeout"] for asked in seen] == ["20000m", "2592000S"]


async def test_large_inputs_are_split(make_server: Any, make_call: CallFactory) -> None:
    """Inputs of nearly 1 MiB each, many at once, arrive in messages that the server takes."""

    @skill("t.work", max_concurrency=0)
    async def work(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        return {"size": len(given["text"])}

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(make_server(skills=[work]))
        engine = await stack.enter_async_context(GrpcSkillRunner(parse_endpoint(f"grpc://{server.address}")))
        await engine.wait_until_asked()
        calls = [make_call({"text": "x" * 1_000_000, "n": n}) for n in range(20)]
        outcomes = await _outcomes(engine, calls)
    assert [outcome.output_json for outcome in outcomes if isinstance(outcome, Succeeded)] == [b'{"size":1000000}'] * 20
