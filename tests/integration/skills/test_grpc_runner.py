"""What the gRPC runner makes of runners that misbehave, are absent, or come back."""

import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import anyio
import grpc
import pytest
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from runengine_client.pb.runengine.v1 import skill_runner_pb2 as pb
from runengine_client.pb.runengine.v1 import skill_runner_pb2_grpc
from runengine_client.skills import AsyncSkillContext, SkillServer, skill
from runengine_server.adapters.skills.grpc_runner import GrpcSkillRunner
from runengine_server.adapters.skills.routing import route_targets
from runengine_server.adapters.skills.targets import parse_endpoint, parse_targets
from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import Failed, Outcome, SkillCall, Succeeded

pytestmark = pytest.mark.anyio
CallFactory = Callable[..., SkillCall]

_ACCEPTED = pb.ExecuteResponse(accepted=pb.ExecuteAccepted(worker_id="liar", skill_version="1"))
_RESULT = pb.ExecuteResponse(result=pb.ExecuteResult(output_json=b'{"a":1}'))


def _ignore(fraction: float, message: str, reported_at: datetime) -> None:
    return


def _artifact(**changes: Any) -> pb.ExecuteResponse:
    fields: dict[str, Any] = {"type": "text/plain", "uri": "file:///a", "content_hash": "a" * 64, "size_bytes": 1}
    return pb.ExecuteResponse(artifact=pb.ProducedArtifact(**{**fields, **changes}))


def _struct(**members: Any) -> Struct:
    struct = Struct()
    struct.update(members)
    return struct


_UNSET = Struct(fields={"a/b": Value(list_value=ListValue(values=[Value(null_value=NULL_VALUE), Value()]))})


def _accepted(**fields: str) -> pb.ExecuteResponse:
    return pb.ExecuteResponse(accepted=pb.ExecuteAccepted(**fields))


def _failure(**fields: Any) -> pb.ExecuteResponse:
    return pb.ExecuteResponse(failure=pb.ExecuteFailure(code="SOME_CODE", **fields))


class Liar(skill_runner_pb2_grpc.SkillRunnerServiceServicer):
    """Says what it was told to say, then hangs, ends or aborts; notices when it is cancelled."""

    def __init__(
        self, script: list[pb.ExecuteResponse], *, hangs: bool = False, status: grpc.StatusCode | None = None
    ) -> None:
        self._script = script
        self._hangs = hangs
        self._status = status
        self.cancelled = anyio.Event()
        self.requests: list[pb.ExecuteRequest] = []
        self.skills: list[pb.Skill] | None = None

    async def ListSkills(self, request: pb.ListSkillsRequest, context: Any) -> pb.ListSkillsResponse:  # noqa: N802
        return pb.ListSkillsResponse(skills=self.skills or (), supports_many=True)

    async def Execute(self, request: pb.ExecuteRequest, context: Any) -> AsyncIterator[pb.ExecuteResponse]:  # noqa: N802
        self.requests.append(request)
        context.add_done_callback(lambda _: self.cancelled.set())
        for message in self._script:
            yield message
        if self._hangs:
            await anyio.sleep_forever()
        if self._status is not None:
            await context.abort(self._status, "internal address 10.0.0.7")

    async def ExecuteMany(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ExecuteManyRequest], context: Any
    ) -> AsyncIterator[pb.ExecuteManyResponse]:
        async for batch in request_iterator:
            for asked in batch.calls:
                if asked.cancel:
                    self.cancelled.set()
                    continue
                self.requests.append(asked.request)
                said = [pb.ExecuteManyMessage(call_id=asked.call_id, response=message) for message in self._script]
                yield pb.ExecuteManyResponse(messages=said)
                if self._status is not None:
                    await context.abort(self._status, "internal address 10.0.0.7")
                if not self._hangs and not any(m.HasField("result") or m.HasField("failure") for m in self._script):
                    return


@pytest.fixture(params=[True, False], ids=["many", "alone"])
def shares_stream(request: pytest.FixtureRequest) -> bool:
    """Whether calls travel together."""
    return bool(request.param)


@asynccontextmanager
async def _engine_of(liar: Liar, *, shares_stream: bool = False) -> AsyncIterator[GrpcSkillRunner]:
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    skill_runner_pb2_grpc.add_SkillRunnerServiceServicer_to_server(liar, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    endpoint = parse_endpoint(f"grpc://127.0.0.1:{port}")
    try:
        async with GrpcSkillRunner(
            endpoint, heartbeat_interval_s=0.1, accepted_within_s=0.4, shares_stream=shares_stream
        ) as runner:
            await runner.wait_until_asked()
            yield runner
    finally:
        await server.stop(0)


async def _failed(liar: Liar, call: SkillCall, *, shares_stream: bool = False) -> Failed:
    async with _engine_of(liar, shares_stream=shares_stream) as engine:
        outcome = await engine.execute(call, _ignore)
    assert isinstance(outcome, Failed), outcome
    return outcome


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([_ACCEPTED], id="no outcome"),
        pytest.param([], id="nothing"),
        pytest.param([_RESULT], id="not accepted"),
        pytest.param([_ACCEPTED, _ACCEPTED, _RESULT], id="accepted twice"),
        pytest.param([_ACCEPTED, pb.ExecuteResponse(), _RESULT], id="empty message"),
        pytest.param([_ACCEPTED, _artifact(content_hash="zz"), _RESULT], id="artifact without hash"),
        pytest.param([_ACCEPTED, _artifact(uri=""), _RESULT], id="artifact without uri"),
        pytest.param([_ACCEPTED, _artifact(uri="u" * 2049), _RESULT], id="uri too long"),
        pytest.param([_ACCEPTED, _artifact(type="t" * 256), _RESULT], id="media type too long"),
        pytest.param([_ACCEPTED, _artifact(filename="f" * 256), _RESULT], id="filename too long"),
        pytest.param([_ACCEPTED, _artifact(filename="a\0"), _RESULT], id="filename with U+0000"),
        pytest.param([_ACCEPTED, _artifact(made_from=["b" * 64] * 65), _RESULT], id="too many sources"),
        pytest.param([_ACCEPTED, _artifact(made_from=["a.txt"]), _RESULT], id="source without hash"),
        pytest.param([_ACCEPTED, _artifact(metadata=_struct(x=math.nan)), _RESULT], id="metadata with NaN"),
        pytest.param([_ACCEPTED, _artifact(metadata=_struct(x=2.0**60)), _RESULT], id="metadata beyond 2^53"),
        pytest.param([_ACCEPTED, _artifact(metadata=_struct(x="y" * 32_768)), _RESULT], id="metadata too long"),
        pytest.param([_ACCEPTED, _artifact(metadata=_struct(x="y" * 500_000)), _RESULT], id="metadata far too long"),
        pytest.param([_ACCEPTED, _artifact(metadata=_UNSET), _RESULT], id="metadata without a value"),
        pytest.param([_ACCEPTED, _failure(details=_UNSET)], id="details without a value"),
        pytest.param([_accepted(skill_version="v" * 129), _RESULT], id="skill version too long"),
        pytest.param([_accepted(cache_version="v" * 129), _RESULT], id="cache version too long"),
        pytest.param([_accepted(cache_version="\0"), _RESULT], id="cache version with U+0000"),
    ],
)
async def test_broken_contract_is_a_protocol_error(
    script: list[pb.ExecuteResponse], make_call: CallFactory, *, shares_stream: bool
) -> None:
    """A stream that breaks the contract fails the attempt as SKILL_PROTOCOL_ERROR, retryable."""
    failure = (await _failed(Liar(script), make_call(), shares_stream=shares_stream)).failure
    assert (failure.code, failure.retryable) == ("SKILL_PROTOCOL_ERROR", True)


async def test_second_result_is_a_protocol_error(make_call: CallFactory) -> None:
    """A stream that goes on after its result fails the attempt: which of them counts cannot be known."""
    failure = (await _failed(Liar([_ACCEPTED, _RESULT, _RESULT]), make_call())).failure
    assert (failure.code, failure.retryable) == ("SKILL_PROTOCOL_ERROR", True)


async def test_place_without_a_value_is_named(make_call: CallFactory) -> None:
    """A Value that was never set is refused with its pointer, instead of being read as null."""
    failure = (await _failed(Liar([_ACCEPTED, _artifact(metadata=_UNSET), _RESULT]), make_call())).failure
    assert failure.message == "The runner sent an artifact whose metadata/a~1b/1 cannot be kept: has no value"


async def test_artifact_at_its_limits_is_kept(make_call: CallFactory) -> None:
    """Exactly what the limits allow arrives as it was sent."""
    sources = [f"{number:064x}" for number in range(64)]
    metadata = _struct(x="y" * (32_768 - len('{"x":""}')))
    artifact = _artifact(
        type="t" * 255, uri="u" * 2048, filename="f" * 255, made_from=sources, metadata=metadata, size_bytes=0
    )
    script = [_accepted(skill_version="s" * 128, cache_version="c" * 128), artifact, _RESULT]
    async with _engine_of(Liar(script)) as engine:
        outcome = await engine.execute(make_call(), _ignore)
    assert isinstance(outcome, Succeeded), outcome
    (kept,) = outcome.artifacts
    assert (len(kept.media_type), len(kept.uri), len(kept.filename), kept.size_bytes) == (255, 2048, 255, 0)
    assert kept.made_from == tuple(sources)
    assert kept.metadata == {"x": metadata["x"]}
    assert (len(outcome.skill_version), len(outcome.cache_version)) == (128, 128)


@pytest.mark.parametrize("member", [math.nan, "y" * 32_768], ids=["NaN", "too long"])
async def test_details_never_hide_the_failure(member: object, make_call: CallFactory) -> None:
    """Details that cannot be kept are left out, and said so; code and retryability are the skill's own."""
    failure = (await _failed(Liar([_ACCEPTED, _failure(details=_struct(x=member))]), make_call())).failure
    assert (failure.code, failure.retryable) == ("SOME_CODE", False)
    assert failure.details is not None and list(failure.details) == ["omitted"]


async def test_skill_that_cannot_be_kept_is_not_listed(make_call: CallFactory) -> None:
    """A skill whose schema has a Value without a value, or whose version is too long, is left out; others count."""
    liar = Liar([])
    liar.skills = [
        pb.Skill(skill_id="t.unset", input_schema=_UNSET),
        pb.Skill(skill_id="t.long", version="v" * 129),
        pb.Skill(skill_id="t.work", version="v" * 128),
    ]
    async with _engine_of(liar) as engine:
        assert await engine.refresh()
        assert set(engine.catalogue()) == {"t.work"}


async def test_unchanged_skill_stays_the_same_object() -> None:
    """A list that is read again keeps what has not changed, so that schemas are not compiled again."""
    liar = Liar([])
    same = pb.Skill(skill_id="t.same", input_schema=_struct(type="object"))
    liar.skills = [same, pb.Skill(skill_id="t.new", version="1")]
    async with _engine_of(liar) as engine:
        before = dict(engine.catalogue())
        liar.skills[1].version = "2"
        assert await engine.refresh()
        after = engine.catalogue()
    assert after[SkillId("t.same")] is before["t.same"]
    assert (before["t.new"].version, after[SkillId("t.new")].version) == ("1", "2")


@pytest.mark.parametrize(
    ("script", "code"), [([], "SKILL_UNAVAILABLE"), ([_ACCEPTED], "HEARTBEAT_TIMEOUT")], ids=["before", "after"]
)
async def test_silence_ends_the_call(
    script: list[pb.ExecuteResponse], code: str, make_call: CallFactory, *, shares_stream: bool
) -> None:
    """Silence before `accepted`, or for three intervals after it, fails the attempt and cancels the call."""
    liar = Liar(script, hangs=True)
    async with _engine_of(liar, shares_stream=shares_stream) as engine:
        outcome = await engine.execute(make_call(), _ignore)
        with anyio.fail_after(5):
            await liar.cancelled.wait()
    assert isinstance(outcome, Failed)
    assert (outcome.failure.code, outcome.failure.retryable) == (code, True)


async def test_outcome_counts_although_the_stream_stays_open(make_call: CallFactory) -> None:
    """A result that is here is not lost to a runner that forgets to close."""
    async with _engine_of(Liar([_ACCEPTED, _RESULT], hangs=True)) as engine:
        assert isinstance(await engine.execute(make_call(), _ignore), Succeeded)


async def test_outcome_counts_although_the_end_is_an_error(make_call: CallFactory, *, shares_stream: bool) -> None:
    """A result that is here is not lost to a status that follows it."""
    liar = Liar([_ACCEPTED, _RESULT], status=grpc.StatusCode.UNAVAILABLE)
    async with _engine_of(liar, shares_stream=shares_stream) as engine:
        assert isinstance(await engine.execute(make_call(), _ignore), Succeeded)


@pytest.mark.parametrize("mebibytes", [2, 4, 9], ids=["output", "message", "beyond gRPC's limit"])
async def test_too_large_output_fails_for_good(mebibytes: int, make_call: CallFactory) -> None:
    """Outputs beyond 1 MiB, in messages of any size, are OUTPUT_TOO_LARGE and not retryable."""
    output = b'{"a":"' + b"x" * (mebibytes << 20) + b'"}'
    script = [_ACCEPTED, pb.ExecuteResponse(result=pb.ExecuteResult(output_json=output))]
    failure = (await _failed(Liar(script), make_call())).failure
    assert (failure.code, failure.retryable) == ("OUTPUT_TOO_LARGE", False)


_RETRYABLE = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNKNOWN"}


@pytest.mark.parametrize("status", [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK])
async def test_status_says_whether_to_retry(status: grpc.StatusCode, make_call: CallFactory) -> None:
    """Exactly the contract's statuses are retryable, and none shows the status text."""
    failure = (await _failed(Liar([_ACCEPTED], status=status), make_call())).failure
    assert failure.retryable == (status.name in _RETRYABLE)
    assert failure.details == {"grpcStatus": status.name}
    assert "10.0.0.7" not in failure.message


async def test_request_carries_the_contract_fields(make_call: CallFactory, *, shares_stream: bool) -> None:
    """The request has the input's bytes and hash, the fencing token, a deadline and a heartbeat interval."""
    liar = Liar([_ACCEPTED, _RESULT])
    call = make_call({"b": 1}, attempt=3, fencing_token=9)
    async with _engine_of(liar, shares_stream=shares_stream) as engine:
        await engine.execute(call, _ignore)
    (request,) = liar.requests
    assert hashlib.sha256(request.input_json).hexdigest() == request.input_hash == call.input_hash
    assert (request.attempt, request.fencing_token, request.tenant) == (3, 9, "acme")
    assert request.HasField("deadline")
    assert request.heartbeat_interval.ToMilliseconds() == 100


async def test_unreachable_runner_fails_in_time(make_call: CallFactory, unused_address: str) -> None:
    """A target nobody listens on is SKILL_UNAVAILABLE by the time `accepted` is due, retryable, not "not offered"."""
    async with GrpcSkillRunner(parse_endpoint(f"grpc://{unused_address}"), accepted_within_s=0.4) as engine:
        await engine.wait_until_asked()
        with anyio.fail_after(3):
            outcome = await engine.execute(make_call(), _ignore)
        availability = engine.availability(SkillId("t.work"))
    assert isinstance(outcome, Failed)
    assert (outcome.failure.code, outcome.failure.retryable) == ("SKILL_UNAVAILABLE", True)
    assert outcome.failure.message == "The skill's runner could not be reached within 0.4 s"
    assert (availability.has_target, availability.is_catalogue_known, availability.info) == (True, False, None)


@pytest.mark.parametrize("is_there", [False, True])
async def test_call_that_never_started_has_not_timed_out(
    make_call: CallFactory, unused_address: str, *, is_there: bool
) -> None:
    """Where the attempt's time is shorter than that for `accepted`, it is SKILL_UNAVAILABLE all the same."""
    if is_there:
        async with _engine_of(Liar([], hangs=True)) as engine:
            outcome = await engine.execute(make_call(timeout_s=0.2), _ignore)
    else:
        async with GrpcSkillRunner(parse_endpoint(f"grpc://{unused_address}")) as engine:
            outcome = await engine.execute(make_call(timeout_s=0.2), _ignore)
    assert isinstance(outcome, Failed)
    assert (outcome.failure.code, outcome.failure.retryable) == ("SKILL_UNAVAILABLE", True)


@pytest.fixture
async def unused_address() -> AsyncIterator[str]:
    """An address that is taken, but on which nobody listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def _server_of(version: str, address: str, folder: Any) -> SkillServer:
    @skill("t.work", version=version)
    async def work(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        return {"version": version}

    return SkillServer([work], address=address, artifact_dir=folder)


async def test_restarting_runner_is_waited_for(
    make_call: CallFactory, tmp_path: Any, until: Callable[..., Any]
) -> None:
    """A call that finds its runner away goes on when it is back, so that a restart costs no attempt."""
    outcomes: list[Outcome] = []
    async with _server_of("old", "127.0.0.1:0", tmp_path) as old:
        address = old.address
    async with GrpcSkillRunner(parse_endpoint(f"grpc://{address}")) as engine:
        await engine.wait_until_asked()

        async def call() -> None:
            outcomes.append(await engine.execute(make_call(), _ignore))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            assert not outcomes
            async with _server_of("new", address, tmp_path):
                await until(lambda: bool(outcomes))
    (outcome,) = outcomes
    assert isinstance(outcome, Succeeded), outcome
    assert json.loads(outcome.output_json) == {"version": "new"}


async def test_restarted_runner_is_listed_again(
    make_call: CallFactory, tmp_path: Any, until: Callable[..., Any]
) -> None:
    """While a runner is away its last list counts; when it is back, its new list is read without waiting 30 s."""

    def version(engine: GrpcSkillRunner) -> str:
        info = engine.availability(SkillId("t.work")).info
        return info.version if info else ""

    async with _server_of("1", "127.0.0.1:0", tmp_path) as old:
        address = old.address
        engine = GrpcSkillRunner(parse_endpoint(f"grpc://{address}"), accepted_within_s=1)
        await engine.__aenter__()
        await until(lambda: version(engine) == "1")
    try:
        away = await engine.execute(make_call(), _ignore)
        assert isinstance(away, Failed) and away.failure.code == "SKILL_UNAVAILABLE"
        assert version(engine) == "1"
        async with _server_of("2", address, tmp_path):
            await until(lambda: version(engine) == "2")
            outcome = await engine.execute(make_call(), _ignore)
            assert isinstance(outcome, Succeeded) and json.loads(outcome.output_json) == {"version": "2"}
    finally:
        await engine.__aexit__(None, None, None)


async def test_targets_are_routed_over_unix_sockets_too(make_call: CallFactory, tmp_path: Any) -> None:
    """A parsed map opens its runners, and the longest pattern decides which one is called."""
    async with (
        _server_of("one", f"unix:{tmp_path}/one", tmp_path / "a"),
        _server_of("two", "127.0.0.1:0", tmp_path / "b") as two,
        route_targets(parse_targets(f"*=grpc://{two.address},t.*=unix:{tmp_path}/one")) as runner,
    ):
        outcome = await runner.execute(make_call(), _ignore)
        assert isinstance(outcome, Succeeded) and json.loads(outcome.output_json) == {"version": "one"}
        assert set(runner.catalogue()) == {"t.work"}
        assert runner.availability(SkillId("x.y")).is_catalogue_known
