"""What every implementation of the SkillRunner port keeps: in-process, gRPC (one stream, or one a call), HTTP."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event as ThreadEvent
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from runengine_client.skills import (
    AsyncSkillContext,
    Skill,
    SkillContext,
    SkillError,
    SkillServer,
    SkillServerLimits,
    skill,
)
from runengine_server.adapters.skills.grpc_runner import GrpcSkillRunner
from runengine_server.adapters.skills.http_runner import HttpSkillRunner
from runengine_server.adapters.skills.local_runner import LocalSkillRunner
from runengine_server.adapters.skills.targets import parse_endpoint
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, SkillId, StepId, Tenant
from runengine_server.domain.trace_context import TraceContext
from runengine_server.ports.skill_runner import Failed, SkillCall, SkillRunner, Succeeded

from ..support.http_runner import HttpRunner, http_runner

pytestmark = pytest.mark.anyio


@dataclass
class Probe:
    """What the skills under test tell the test."""

    started: anyio.Event = field(default_factory=anyio.Event)
    cancelled: anyio.Event = field(default_factory=anyio.Event)
    release: ThreadEvent = field(default_factory=ThreadEvent)
    thread_saw_cancel: ThreadEvent = field(default_factory=ThreadEvent)


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture(params=["many", "alone", "local", "http", "callbacks"])
async def runner(request: pytest.FixtureRequest, tmp_path: Path, probe: Probe) -> AsyncIterator[SkillRunner]:
    skills = _skills(probe)
    if request.param == "local":
        local = LocalSkillRunner(skills, artifact_dir=tmp_path)
        yield local
        local.close()
        return
    if request.param in ("http", "callbacks"):
        local = LocalSkillRunner(skills, artifact_dir=tmp_path)
        async with http_runner(HttpRunner(local, is_async=request.param == "callbacks")) as remote:
            yield remote
        local.close()
        return
    async with AsyncExitStack() as stack:
        limits = SkillServerLimits(grace_s=0.05, drain_s=0.05)
        server = SkillServer(skills, address="127.0.0.1:0", artifact_dir=tmp_path, limits=limits)
        await stack.enter_async_context(server)
        endpoint = parse_endpoint(f"grpc://{server.address}")
        grpc_runner = GrpcSkillRunner(endpoint, heartbeat_interval_s=0.2, shares_stream=request.param == "many")
        await stack.enter_async_context(grpc_runner)
        await grpc_runner.wait_until_asked()
        yield grpc_runner


def _skills(probe: Probe) -> list[Skill]:
    @skill("t.sync", version="2.0.0", cache_version="c1", default_timeout_s=7, max_concurrency=3)
    def sync(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        """Answers what it was asked."""
        return {"input": given, "step": context.step_id, "attempt": context.attempt}

    @skill("t.async")
    async def asynchronous(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        return {"input": given, "step": context.step_id, "attempt": context.attempt}

    @skill("t.fails")
    async def fails(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        raise SkillError("QUOTA_EXCEEDED", "No quota left", **given)

    @skill("t.breaks")
    def breaks(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        raise {"os": OSError, "type": TypeError, "exit": SystemExit}[given["kind"]]("secret-words")

    @skill("t.returns")
    async def returns(given: dict[str, Any], context: AsyncSkillContext) -> Any:
        return {"list": [1], "nan": {"x": float("nan")}, "large": {"x": "y" * (1 << 20)}}[given["kind"]]

    @skill("t.hangs")
    async def hangs(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        probe.started.set()
        try:
            await anyio.sleep_forever()
        finally:
            probe.cancelled.set()
        return {}

    @skill("t.polls")
    def polls(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        while not context.is_cancelled():
            probe.release.wait(0.005)
        probe.thread_saw_cancel.set()
        context.check_cancelled()
        return {}

    @skill("t.publishes")
    def publishes(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        first = context.publish(b"one", filename="one.txt", media_type="text/plain", metadata={"width": 3, "r": 0.5})
        assert context.read(first.as_json()) == b"one"
        second = context.publish(b"two", filename="two.txt", media_type="text/plain", made_from=[first])
        context.report_progress(0.25, "quarter")
        context.do_not_cache()
        return {"second": second.as_json()}

    @skill("t.publishes_async")
    async def publishes_async(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        first = await context.publish(b"one", filename="one.txt", media_type="text/plain")
        return {"text": (await context.read(first)).decode()}

    @skill("t.traced")
    def traced(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        return {"traceparent": context.traceparent, "traceId": context.trace_id}

    return [sync, asynchronous, fails, breaks, returns, hangs, polls, publishes, publishes_async, traced]


def _call(skill_id: str, value: dict[str, Any] | None = None, *, timeout_s: float = 20.0) -> SkillCall:
    input_json = json.dumps(value or {}).encode()
    input_hash = hashlib.sha256(input_json).hexdigest()
    return SkillCall(
        skill_id=SkillId(skill_id),
        idempotency_key=f"run/step/{input_hash}",
        run_id=RunId("run"),
        step_id=StepId("step"),
        attempt=2,
        fencing_token=5,
        input_json=input_json,
        input_hash=input_hash,
        workflow_name="w.v1",
        tenant=Tenant("acme"),
        timeout_s=timeout_s,
    )


def _ignore(fraction: float, message: str, reported_at: datetime) -> None:
    return


def _bytes_of(uri: str) -> bytes:
    return Path(urlsplit(uri).path).read_bytes()


async def _failure(runner: SkillRunner, call: SkillCall) -> Failure:
    outcome = await runner.execute(call, _ignore)
    assert isinstance(outcome, Failed)
    return outcome.failure


async def _success(runner: SkillRunner, call: SkillCall) -> Succeeded:
    outcome = await runner.execute(call, _ignore)
    assert isinstance(outcome, Succeeded), outcome
    return outcome


async def test_a_skill_can_go_on_in_the_trace_of_its_call(runner: SkillRunner) -> None:
    """The call's trace context is what the skill is given; one without is given nothing."""
    trace = TraceContext(traceparent=f"00-{'a1' * 16}-{'b2' * 8}-01")
    traced = await _success(runner, replace(_call("t.traced"), trace=trace))
    assert json.loads(traced.output_json) == {"traceparent": trace.traceparent, "traceId": "a1" * 16}
    untraced = await _success(runner, _call("t.traced", {"again": True}))
    assert json.loads(untraced.output_json) == {"traceparent": "", "traceId": ""}


@pytest.mark.parametrize("skill_id", ["t.sync", "t.async"])
async def test_success_carries_the_output(runner: SkillRunner, skill_id: str) -> None:
    """A skill's output arrives as JSON bytes; the skill saw its input and its attempt."""
    outcome = await _success(runner, _call(skill_id, {"a": [1, 2.5, "é"]}))
    assert json.loads(outcome.output_json) == {"input": {"a": [1, 2.5, "é"]}, "step": "step", "attempt": 2}
    assert not outcome.do_not_cache


async def test_success_names_the_build(runner: SkillRunner) -> None:
    """A success says which version executed and under which cache version it may be filed."""
    outcome = await _success(runner, _call("t.sync"))
    assert (outcome.skill_version, outcome.cache_version) == ("2.0.0", "c1")
    assert outcome.worker_id


async def test_declared_failure_keeps_its_words(runner: SkillRunner) -> None:
    """A SkillError's code, message, retryability, delay and details arrive."""
    wish = {"retryable": True, "retry_after_s": 1.5, "details": {"left": 0}}
    outcome = await runner.execute(_call("t.fails", wish), _ignore)
    assert isinstance(outcome, Failed)
    assert outcome.failure == Failure(
        code="QUOTA_EXCEEDED", message="No quota left", retryable=True, details={"left": 0}
    )
    assert outcome.retry_after_s == 1.5


async def test_declared_failure_is_permanent_by_default(runner: SkillRunner) -> None:
    """A SkillError that does not say so is not retryable."""
    assert not (await _failure(runner, _call("t.fails"))).retryable


@pytest.mark.parametrize(("kind", "is_retryable"), [("os", True), ("type", False), ("exit", True)])
async def test_exception_is_a_failure_that_tells_nothing(runner: SkillRunner, kind: str, is_retryable: bool) -> None:
    """Any other exception is SKILL_FAILED without its message; errors of the code itself are not retryable."""
    failure = await _failure(runner, _call("t.breaks", {"kind": kind}))
    assert (failure.code, failure.retryable) == ("SKILL_FAILED", is_retryable)
    assert "secret-words" not in failure.message
    assert "Traceback" not in failure.message


@pytest.mark.parametrize(
    ("kind", "code"), [("list", "OUTPUT_INVALID"), ("nan", "OUTPUT_INVALID"), ("large", "OUTPUT_TOO_LARGE")]
)
async def test_unacceptable_output_is_a_failure(runner: SkillRunner, kind: str, code: str) -> None:
    """An output that is no JSON object, or above 1 MiB, fails for good."""
    failure = await _failure(runner, _call("t.returns", {"kind": kind}))
    assert (failure.code, failure.retryable) == (code, False)


@pytest.mark.parametrize("skill_id", ["t.hangs", "t.polls"])
async def test_timeout_ends_the_attempt(runner: SkillRunner, probe: Probe, skill_id: str) -> None:
    """An attempt past its timeout is SKILL_TIMEOUT, retryable, and its function is told."""
    failure = await _failure(runner, _call(skill_id, timeout_s=0.3))
    assert (failure.code, failure.retryable) == ("SKILL_TIMEOUT", True)
    if skill_id == "t.polls":
        assert await anyio.to_thread.run_sync(probe.thread_saw_cancel.wait, 5)
    else:
        with anyio.fail_after(5):
            await probe.cancelled.wait()


async def test_cancelling_the_task_cancels_the_skill(runner: SkillRunner, probe: Probe) -> None:
    """A cancelled attempt returns at once, and its skill is cancelled."""
    async with anyio.create_task_group() as group:
        group.start_soon(runner.execute, _call("t.hangs"), _ignore)
        with anyio.fail_after(5):
            await probe.started.wait()
        group.cancel_scope.cancel()
    if isinstance(runner, HttpSkillRunner):
        await runner.abandon(_call("t.hangs"))  # over HTTP a closed connection is a lost engine, nothing more
    with anyio.fail_after(5):
        await probe.cancelled.wait()


async def test_artifacts_arrive_with_the_success(runner: SkillRunner) -> None:
    """Published files are stored, described exactly, and come in order with the output."""
    outcome = await _success(runner, _call("t.publishes"))
    first, second = outcome.artifacts
    assert first.content_hash == hashlib.sha256(b"one").hexdigest()
    assert (first.media_type, first.filename, first.size_bytes) == ("text/plain", "one.txt", 3)
    assert first.metadata == {"width": 3, "r": 0.5}
    assert isinstance(first.metadata["width"], int)
    assert second.made_from == (first.content_hash,)
    assert _bytes_of(second.uri) == b"two"
    assert json.loads(outcome.output_json)["second"] == second.as_selector_value()
    assert outcome.do_not_cache


async def test_async_skills_publish_and_read(runner: SkillRunner) -> None:
    """An async skill awaits publish and read."""
    outcome = await _success(runner, _call("t.publishes_async"))
    assert json.loads(outcome.output_json) == {"text": "one"}
    assert len(outcome.artifacts) == 1


async def test_progress_is_heard(runner: SkillRunner) -> None:
    """Progress reaches the listener with an aware time."""
    heard: list[tuple[float, str, datetime]] = []
    before = datetime.now(UTC)
    await runner.execute(_call("t.publishes"), lambda *progress: heard.append(progress))
    assert [(fraction, message) for fraction, message, _ in heard] == [(0.25, "quarter")]
    assert heard[0][2] >= before


async def test_unknown_skill_fails_for_good(runner: SkillRunner) -> None:
    """A skill the runner does not offer is a permanent failure, not an exception."""
    failure = await _failure(runner, _call("t.nothing"))
    assert (failure.code, failure.retryable) == ("SKILL_UNAVAILABLE", False)


async def test_availability_describes_what_is_offered(runner: SkillRunner) -> None:
    """The list says version, cache version, limit and timeout; an unlisted skill has a target but no info."""
    known = runner.availability(SkillId("t.sync"))
    assert known.has_target and known.is_catalogue_known and known.info is not None
    assert (known.info.version, known.info.cache_version) == ("2.0.0", "c1")
    assert (known.info.max_concurrency, known.info.default_timeout_s) == (3, 7.0)
    assert known.info.description == "Answers what it was asked."
    unknown = runner.availability(SkillId("t.nothing"))
    assert unknown.has_target and unknown.is_catalogue_known and unknown.info is None
