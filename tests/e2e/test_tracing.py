"""One trace from the client's Trigger to the skill and back, as a collector sees it."""

import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from runengine_client import RunEngineClient, SyncRunEngineClient
from runengine_client.errors import NotFoundError
from runengine_client.handle import RunHandle
from runengine_client.states import RunStatus
from runengine_client.workflow import expression

from ..support.collector import Collector
from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import clean_environment
from ..support.skill_server_process import SkillServerProcess
from .workflows import DEMO, demo, gated, single

pytestmark = pytest.mark.anyio

OURS = "a1b2c3d4e5f60718"
"""The span in which the test calls."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where every process of the module exports to."""
    with Collector() as listening:
        yield listening


@pytest.fixture(scope="module")
def skills(folder: Path, collector: Collector) -> Iterator[SkillServerProcess]:
    """The skill server, exporting."""
    with SkillServerProcess(folder / "skills", environment=collector.environment) as process:
        yield process


@pytest.fixture(scope="module")
def traced_settings(engine_settings: EngineSettings, collector: Collector) -> EngineSettings:
    """Engines that export and log JSON."""
    return replace(engine_settings, environment={**collector.environment, "RUNENGINE_LOG_FORMAT": "json"})


@pytest.fixture(scope="module")
def engine(traced_settings: EngineSettings) -> Iterator[EngineProcess]:
    """The module's server."""
    with EngineProcess(traced_settings) as process:
        yield process


@contextmanager
def our_span(*, is_sampled: bool = True) -> Iterator[str]:
    """Call in a span of our own; gives the trace."""
    trace_id = secrets.token_hex(16)
    context = SpanContext(int(trace_id, 16), int(OURS, 16), is_remote=False, trace_flags=TraceFlags(int(is_sampled)))
    token = attach(set_span_in_context(NonRecordingSpan(context)))
    try:
        yield trace_id
    finally:
        detach(token)


def span_of(run_id: str) -> str:
    """The id of a run's span."""
    return run_id.replace("-", "")[16:]


def of(run_id: str, step_id: str | None = None, attempt: int | None = None) -> dict[str, object]:
    """The attributes by which spans are found."""
    about = {"runengine.run.id": run_id, "runengine.step.id": step_id, "runengine.attempt": attempt}
    return {name: value for name, value in about.items() if value is not None}


async def completed(handle: RunHandle) -> str:
    run = await handle.wait()
    assert run.status is RunStatus.COMPLETED
    return run.id


def own() -> dict[str, Any]:
    """A payload that no other run has."""
    return {"brief": secrets.token_hex(8)}


async def test_one_trace_from_trigger_to_skill_and_back(
    client: RunEngineClient, collector: Collector, engine: EngineProcess
) -> None:
    """Client, RPC, run, step, look-up, call and skill are one trace, each the child of what caused it."""
    await client.register_workflow(demo())
    with our_span() as trace_id:
        handle = await client.start(DEMO, own())
    run_id = await completed(handle)

    rpc = collector.wait_for("runengine.v1.RunEngine/Trigger", {"rpc.grpc.status_code": 0})
    run = collector.wait_for(f"run {DEMO}", of(run_id))
    assert (rpc.kind, rpc.trace_id, rpc.parent_id) == ("server", trace_id, OURS)
    assert (run.trace_id, run.parent_id, run.span_id) == (trace_id, rpc.span_id, span_of(run_id))
    assert run.attributes["runengine.run.status"] == "COMPLETED"
    for step_id in ("plan", "music", "intro", "mix"):
        about = of(run_id, step_id)
        step = collector.wait_for(f"step {step_id}", about)
        lookup = collector.wait_for("cache lookup", about)
        call = collector.wait_for("call t.echo", about)
        skill = collector.wait_for("skill t.echo", about)
        assert {each.trace_id for each in (step, lookup, call, skill)} == {trace_id}
        assert step.parent_id == run.span_id
        assert lookup.parent_id == call.parent_id == step.span_id
        assert (call.kind, skill.kind, skill.parent_id) == ("client", "server", call.span_id)
        assert (step.service, skill.service) == ("runengine", "runengine-skills")
        assert step.attributes["runengine.output.source"] == "EXECUTED"
        assert step.attributes["runengine.cache.outcome"] == lookup.attributes["runengine.cache.outcome"] == "MISS"
        assert step.attributes["runengine.step.queue_wait_ms"] >= 0
        assert step.began_at <= call.began_at <= call.ended_at <= step.ended_at + 0.001

    said = [json.loads(line) for line in engine.log.splitlines() if run_id in line and line.startswith("{")]
    assert len(said) > 8 and {line["trace_id"] for line in said} == {trace_id}


async def test_a_killed_engine_breaks_no_trace(
    traced_settings: EngineSettings, collector: Collector, folder: Path, fresh_database_url: str
) -> None:
    """An engine that dies between Trigger and execution leaves its run to another, which goes on in the same trace."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    settings = replace(traced_settings, skills=f"t.*=grpc://{address}")
    with EngineProcess(settings, "first", RUNENGINE_LEASE_S="2") as first:
        async with first.client() as client:
            await client.register_workflow(single("survivor", skill="t.echo"))
            with our_span() as trace_id:
                handle = await client.start("survivor", {"given": secrets.token_hex(8)})
        collector.wait_until(
            lambda spans: any(span.trace_id == trace_id and span.name.endswith("/Trigger") for span in spans)
        )
        first.kill()
    with (
        SkillServerProcess(folder / "late-skills", address=address, environment=collector.environment),
        EngineProcess(settings, "second", RUNENGINE_LEASE_S="2") as second,
    ):
        async with second.client() as client:
            assert (await client.run(handle.id).wait()).status is RunStatus.COMPLETED
        about = of(handle.id)
        run = collector.wait_for("run survivor", about)
        step = collector.wait_for("step only", about)
        call = collector.wait_for("call t.echo", about)
        skill = collector.wait_for("skill t.echo", about)
    rpc = next(span for span in collector.spans if span.span_id == run.parent_id)
    assert (rpc.name, rpc.parent_id) == ("runengine.v1.RunEngine/Trigger", OURS)
    assert [step.parent_id, call.parent_id, skill.parent_id] == [run.span_id, step.span_id, call.span_id]
    assert {each.trace_id for each in (rpc, run, step, call, skill)} == {trace_id}


async def test_a_call_that_outlives_its_engine_keeps_its_parents(
    traced_settings: EngineSettings, collector: Collector, skills: SkillServerProcess
) -> None:
    """Whichever engine hears the end of a call records it under the id that the skill was called with."""
    gate = secrets.token_hex(4)
    with EngineProcess(traced_settings, "caller", RUNENGINE_LEASE_S="2") as first:
        async with first.client() as client:
            await client.register_workflow(gated("outliving"))
            with our_span() as trace_id:
                handle = await client.start("outliving", {"gate": gate})
        skills.wait_for_call(handle.id, "wait")
        first.kill()
    with EngineProcess(traced_settings, "heir", RUNENGINE_LEASE_S="2") as second:
        async with second.client() as client:
            skills.open_gate(gate)
            assert (await client.run(handle.id).wait()).status is RunStatus.COMPLETED
        skill = collector.wait_for("skill t.gated", of(handle.id))
        call = collector.wait_for("call t.gated", of(handle.id))
        step = collector.wait_for("step wait", of(handle.id))
    assert (skill.parent_id, call.parent_id) == (call.span_id, step.span_id)
    assert {each.trace_id for each in (skill, call, step)} == {trace_id}
    assert step.attributes["runengine.step.lease_losses"] == 1
    assert skills.calls(run_id=handle.id, step_id="wait") == 1


async def test_an_update_is_a_trace_of_its_own_with_a_link(client: RunEngineClient, collector: Collector) -> None:
    """An update that nobody traces begins a trace, and its run links to the base's; what is reused has no step span."""
    await client.register_workflow(demo())
    payload = own()
    with our_span() as trace_id:
        base = await completed(await client.start(DEMO, payload))
    update = await completed(await client.start_update(base, "music.update", {"style": "loud"}))
    run = collector.wait_for(f"run {DEMO}", of(update))
    assert run.trace_id != trace_id
    assert run.links == ((trace_id, span_of(base)),)
    assert run.attributes["runengine.run.steps_reused_by_plan"] >= 1
    again = await completed(await client.start(DEMO, payload))
    assert collector.wait_for(f"run {DEMO}", of(again)).links == ()
    mine = [span.name for span in collector.spans if span.attributes.get("runengine.run.id") == again]
    assert mine == [f"run {DEMO}"]


async def test_each_attempt_is_a_step_span(client: RunEngineClient, collector: Collector) -> None:
    """A failed attempt and the one that follows are two spans with their calls; the run's is no error then."""
    flaky = single("flaky", skill="t.flaky", input={"failures": 1}, max_attempts=2, backoff_ms=1)
    await client.register_workflow(flaky)
    run_id = await completed(await client.start("flaky", {}))
    spans = [
        (
            collector.wait_for("step only", of(run_id, attempt=attempt)),
            collector.wait_for("call t.flaky", of(run_id, attempt=attempt)),
            collector.wait_for("skill t.flaky", of(run_id, attempt=attempt)),
        )
        for attempt in (1, 2)
    ]
    assert [[span.is_error for span in attempt] for attempt in spans] == [[True] * 3, [False] * 3]
    assert {span.attributes["error.type"] for span in spans[0]} == {"FLAKY"}
    assert [call.parent_id for _, call, _ in spans] == [step.span_id for step, _, _ in spans]
    assert not collector.wait_for("run flaky", of(run_id)).is_error


async def test_a_cancelled_run_leaves_no_span_without_its_parent(
    client: RunEngineClient, collector: Collector, skills: SkillServerProcess
) -> None:
    """What ran when a run was cancelled is a span, too: of the step, of the call and of the skill."""
    await client.register_workflow(gated("stopped"))
    handle = await client.start("stopped", {"gate": "never"})
    skills.wait_for_call(handle.id, "wait")
    await client.cancel(handle.id, "enough")
    run = collector.wait_for("run stopped", of(handle.id))
    step = collector.wait_for("step wait", of(handle.id))
    call = collector.wait_for("call t.gated", of(handle.id))
    assert (run.attributes["runengine.run.status"], run.is_error) == ("CANCELLED", True)
    assert (step.parent_id, step.attributes["error.type"]) == (run.span_id, "STEP_CANCELLED")
    assert (call.parent_id, call.attributes["error.type"]) == (step.span_id, "SKILL_CANCELLED")


async def test_http_requests_begin_or_continue_traces(
    engine: EngineProcess, client: RunEngineClient, collector: Collector
) -> None:
    """A request with `traceparent` is continued; its span has the route's name, and no query."""
    await client.register_workflow(demo())
    trace_id = secrets.token_hex(16)
    async with httpx.AsyncClient(
        base_url=engine.http_url, headers={"Authorization": f"Bearer {TOKENS.admin}"}, trust_env=False
    ) as http:
        answer = await http.post(
            "/api/v1/runs",
            json={"workflowName": DEMO, "triggerPayload": own()},
            headers={"traceparent": f"00-{trace_id}-{OURS}-01"},
        )
        run_id = answer.raise_for_status().json()["runId"]
        await http.get(f"/api/v1/runs/{run_id}", params={"access_token": "asked-with-this"})
        of_connect = f"00-{secrets.token_hex(16)}-{OURS}-01"
        await http.post("/runengine.v1.RunEngine/GetRun", json={"runId": run_id}, headers={"traceparent": of_connect})
    request = collector.wait_for("POST /api/v1/runs", {"http.response.status_code": answer.status_code})
    run = collector.wait_for(f"run {DEMO}", of(run_id))
    assert (request.trace_id, request.parent_id, request.kind) == (trace_id, OURS, "server")
    assert (run.trace_id, run.parent_id) == (trace_id, request.span_id)
    collector.wait_for("GET /api/v1/runs/{runId}")
    assert collector.wait_for("POST /runengine.v1.RunEngine/GetRun").trace_id == of_connect[3:35]
    assert "asked-with-this" not in repr(collector.spans)


async def test_what_is_not_sampled_is_not_exported_but_continued(client: RunEngineClient, collector: Collector) -> None:
    """The caller's decision not to record holds everywhere, and the skill hears of it."""
    await client.register_workflow(single("told", skill="t.traced", input={"own": expression("trigger.own")}))
    heard = []
    for is_sampled in (False, True):
        with our_span(is_sampled=is_sampled) as trace_id:
            handle = await client.start("told", {"own": secrets.token_hex(8)})
        run_id = await completed(handle)
        (step,) = [step async for step in client.list_steps(run_id, full=True)]
        assert step.output is not None and step.output["traceId"] == trace_id
        heard.append(step.output["traceparent"])
    call = collector.wait_for("call t.traced", of(run_id))
    assert heard[1] == f"00-{trace_id}-{call.span_id}-01"
    assert heard[0].endswith("-00")
    assert heard[0][3:35] not in {span.trace_id for span in collector.spans}


async def test_refusals_and_streams_are_calls_too(client: RunEngineClient, collector: Collector) -> None:
    """A span says with which status a call ended; what the caller is to blame for is no error of the server's."""
    with our_span() as trace_id, pytest.raises(NotFoundError):
        await client.get_run("00000000-0000-4000-8000-000000000000")
    refused = collector.wait_for("runengine.v1.RunEngine/GetRun", {"rpc.grpc.status_code": 5})
    assert (refused.trace_id, refused.is_error) == (trace_id, False)
    await client.register_workflow(demo())
    handle = await client.start(DEMO, own())
    with our_span() as trace_id:
        await completed(handle)
    watch = collector.wait_for("runengine.v1.RunEngine/WatchRun", {"rpc.grpc.status_code": 0})
    collector.wait_until(lambda spans: any(s.trace_id == trace_id and s.name == watch.name for s in spans))


def test_the_synchronous_client_continues_the_trace_of_its_caller(engine: EngineProcess, collector: Collector) -> None:
    """The event loop it uses belongs to another thread; the span is the calling thread's."""
    with SyncRunEngineClient(engine.target, token=TOKENS.admin) as client, our_span() as trace_id:
        list(client.list_runs())
    collector.wait_until(lambda spans: any((s.trace_id, s.parent_id) == (trace_id, OURS) for s in spans))


async def test_spans_say_nothing_that_is_secret(client: RunEngineClient, collector: Collector) -> None:
    """No payload, no output, no token and no tenant is in any span."""
    await client.register_workflow(demo())
    secret = secrets.token_hex(12)
    run_id = await completed(await client.start(DEMO, {"brief": secret}))
    collector.wait_for(f"run {DEMO}", of(run_id))
    collector.wait_for("skill t.echo", of(run_id, "mix"))
    told = repr(collector.spans)
    for word in (secret, TOKENS.admin, "Bearer", "acme"):
        assert word not in told


async def test_nothing_is_traced_unless_asked_for(
    engine_settings: EngineSettings, collector: Collector, fresh_database_url: str
) -> None:
    """Without OTEL_* nothing is exported and runs carry no trace, whatever callers send."""
    with EngineProcess(engine_settings, "plain") as quiet:
        async with quiet.client() as client:
            await client.register_workflow(demo())
            with our_span() as trace_id:
                run_id = await completed(await client.start(DEMO, own()))
    assert trace_id not in {span.trace_id for span in collector.spans if span.service == "runengine"}
    connection = await asyncpg.connect(fresh_database_url)
    assert await connection.fetchval("SELECT trace_context FROM runs WHERE id = $1", run_id) is None
    await connection.close()


def test_a_collector_that_is_away_stops_nothing(engine_settings: EngineSettings) -> None:
    """Runs go on, and the engine ends in time, with nobody to export to."""
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with EngineProcess(engine_settings, "alone", **away) as engine:
        with SyncRunEngineClient(engine.target, token=TOKENS.admin) as client:
            client.register_workflow(demo())
            assert client.start(DEMO, own()).wait().status is RunStatus.COMPLETED
        engine.terminate()
        assert engine.wait(timeout_s=20) == 0


def test_an_exporter_that_is_not_installed_is_named(engine_settings: EngineSettings, folder: Path) -> None:
    """The server says which, and does not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "runengine_server", "serve"],
        env={
            **clean_environment(),
            "DATABASE_URL": engine_settings.database_url,
            "RUNENGINE_TOKENS_FILE": str(TOKENS.write(folder / "tokens.json")),
            "OTEL_TRACES_EXPORTER": "zipkin",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "OTEL_TRACES_EXPORTER: no exporter 'zipkin' is installed" in ended.stderr
