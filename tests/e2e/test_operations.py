"""Port 3002 as operators and their tools use it: without a token, and without anything of a tenant."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from runengine_client import RunEngineClient
from runengine_client.states import RunStatus

from ..support.engine_process import TOKENS, EngineProcess
from ..support.processes import wait_until
from ..support.skill_server_process import SkillServerProcess
from .workflows import DEMO, demo, gated, single

pytestmark = pytest.mark.anyio

SECRET = "a-payload-nobody-should-see"


@pytest.fixture
def ops(engine: EngineProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.ops_url) as client:
        yield client


def samples(ops: httpx.Client) -> dict[tuple[str, ...], float]:
    """The values of a scrape, by name and the values of the labels in the order of their names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(ops.get("/metrics").text)
        for sample in family.samples
    }


def test_seed_commands(engine: EngineProcess) -> None:
    """The quickstart's two health checks work as written, but for the port, and answer without a token."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl")
    address = engine.ops_url.removeprefix("http://")
    for command, expected in (
        ("curl http://localhost:3002/health/queues", '"ready"'),
        ("curl http://localhost:3002/metrics | grep run_engine_cache_hit_rate", "\nrun_engine_cache_hit_rate "),
    ):
        shell = command.replace("localhost:3002", address)
        said = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, timeout=30, check=True).stdout
        assert expected in said


async def test_the_queue_is_counted(ops: httpx.Client, client: RunEngineClient, skills: SkillServerProcess) -> None:
    """Running and delayed steps are counted in all and by skill, with their age, on port 3002 and in the metrics."""
    await client.register_workflow(gated("ops.gated"))
    await client.register_workflow(
        single("ops.flaky", skill="t.flaky", input={"failures": 1}, max_attempts=2, backoff_ms=60_000)
    )
    gate = uuid4().hex
    running = await client.start("ops.gated", {"gate": gate})
    delayed = await client.start("ops.flaky", {"given": None})

    def queue() -> Any:
        return ops.get("/health/queues").json()

    wait_until(
        lambda: (queue()["total"]["running"]["steps"], queue()["total"]["delayed"]["steps"]) == (1, 1),
        "a running and a delayed step",
    )
    wait_until(lambda: queue()["total"]["running"]["oldestAgeMs"] >= 500, "the running step ages")
    found = queue()
    assert found["enginesAlive"] == 1
    by_skill = {skill["skillId"]: skill["depths"] for skill in found["skills"]}
    assert by_skill["t.gated"]["running"]["steps"] == by_skill["t.flaky"]["delayed"]["steps"] == 1
    assert found["total"]["stuck"] == {"steps": 0, "oldestAgeMs": 0}
    values = samples(ops)
    assert values["run_engine_queue_steps", "running"] == values["run_engine_queue_steps", "delayed"] == 1
    assert values["run_engine_queue_oldest_age_seconds", "running"] >= 0.5
    assert values["run_engine_queue_stuck_steps",] == 0
    assert values["run_engine_engines_alive",] == values["run_engine_ready",] == 1
    assert values["run_engine_attempts_in_flight",] == 1
    skills.open_gate(gate)
    await running.wait()
    await delayed.cancel()
    wait_until(lambda: queue()["total"]["running"]["steps"] == 0, "the queue is empty")


async def test_what_happens_is_counted(ops: httpx.Client, client: RunEngineClient, engine: EngineProcess) -> None:
    """Runs, steps, look-ups, failures and requests of both surfaces show in the metrics, by skill, source and code."""
    await client.register_workflow(demo())
    await client.register_workflow(
        single("ops.fails", skill="t.flaky", input={"failures": 9, "code": "MY_OWN"}, max_attempts=1)
    )
    before = samples(ops)
    payload = {"brief": SECRET + uuid4().hex}
    for _ in range(2):
        run = await (await client.start(DEMO, payload)).wait()
        assert run.status is RunStatus.COMPLETED
    await (await client.start("ops.fails", {"given": None})).wait()
    header = {"authorization": f"Bearer {TOKENS.reader}"}
    async with httpx.AsyncClient(base_url=engine.http_url, headers=header) as http:
        assert (await http.get(f"/api/v1/runs/{run.id}")).status_code == 200
        assert (await http.get(f"/api/v1/nothing/{SECRET}")).status_code == 404
        assert (await http.post("/api/v1/runs", json={})).status_code == 403
    after = samples(ops)

    def grown(*key: str) -> float:
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert grown("run_engine_runs_started_total") == 3
    assert grown("run_engine_runs_ended_total", "completed") == 2
    assert grown("run_engine_runs_ended_total", "failed") == 1
    assert grown("run_engine_steps_total", "t.echo", "executed") == 4
    assert (
        grown("run_engine_steps_total", "t.echo", "cache_hot") + grown("run_engine_steps_total", "t.echo", "cache_cold")
        == 4
    )
    assert grown("run_engine_step_duration_seconds_count", "t.echo") == 4
    assert grown("run_engine_attempts_failed_total", "other", "t.flaky") == 1
    hits = grown("run_engine_cache_hits_total", "hot") + grown("run_engine_cache_hits_total", "cold")
    assert (hits, grown("run_engine_cache_misses_total")) == (4, 5)
    assert 0 < after["run_engine_cache_hit_rate",] < 1
    assert grown("run_engine_grpc_requests_total", "OK", "/runengine.v1.RunEngine/Trigger") == 3
    assert grown("run_engine_grpc_request_duration_seconds_count", "/runengine.v1.RunEngine/Trigger") == 3
    assert grown("run_engine_http_requests_total", "/api/v1/runs/{runId}", "200", "GET") == 1
    assert grown("run_engine_http_requests_total", "/api/v1/runs", "403", "POST") == 1
    assert grown("run_engine_http_requests_total", "unknown", "404", "GET") == 1
    assert grown("run_engine_turn_duration_seconds_count") > 0


async def test_streams_are_counted(ops: httpx.Client, client: RunEngineClient) -> None:
    """A watch is open while somebody follows, counts once it has ended, and has no duration."""
    await client.register_workflow(demo())
    name, method = "run_engine_grpc_requests_total", "/runengine.v1.RunEngine/WatchRun"

    def ended() -> float:
        return sum(value for key, value in samples(ops).items() if key[0] == name and key[2] == method)

    before = ended()
    handle = await client.start(DEMO, {"brief": uuid4().hex})
    await handle.wait()
    async for _ in client.watch(handle.id, after_sequence=0):
        pass
    wait_until(lambda: ended() >= before + 1 and samples(ops)["run_engine_watches_open",] == 0, "the watch is counted")
    assert ("run_engine_grpc_request_duration_seconds_count", method) not in samples(ops)


async def test_refused_calls_keep_their_status(ops: httpx.Client, engine: EngineProcess) -> None:
    """A call that is refused counts under its status, and a method that is not served under no name of the caller's."""
    before = samples(ops)
    async with engine.client(token="wrong") as stranger:
        with pytest.raises(Exception, match="token"):
            await stranger.get_run(str(uuid4()))
    async with grpc.aio.insecure_channel(engine.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(f"/{SECRET}/Method")(b"")
    after = samples(ops)
    key = "run_engine_grpc_requests_total", "UNAUTHENTICATED", "/runengine.v1.RunEngine/GetRun"
    assert after[key] - before.get(key, 0) == 1
    unknown = "run_engine_grpc_requests_total", "UNIMPLEMENTED", "unknown"
    assert after[unknown] - before.get(unknown, 0) == 1


def everything(ops: httpx.Client) -> list[httpx.Response]:
    """What every path of the port answers."""
    return [ops.get(path) for path in ("/health/live", "/health/ready", "/health/queues", "/metrics")]


async def test_nothing_of_a_tenant_is_shown(ops: httpx.Client, client: RunEngineClient) -> None:
    """No answer of port 3002 has a tenant, a principal, a run, a step, a workflow, a payload or a token in it."""
    await client.register_workflow(demo())
    handle = await client.start(DEMO, {"brief": SECRET})
    await handle.wait()
    answers = everything(ops)
    assert [answer.status_code for answer in answers] == [200] * 4
    text = "".join(answer.text + json.dumps(dict(answer.headers)) for answer in answers)
    for secret in (SECRET, handle.id, TOKENS.admin, "acme", "ada", DEMO, "music"):
        assert secret not in text


def test_other_paths_and_verbs(ops: httpx.Client) -> None:
    """Bull Board's address leads to the console's queue page; nothing can be posted, nothing else is there."""
    assert ops.get("/bull-board").headers["location"].endswith("/queue")
    assert ops.post("/metrics").status_code == ops.post("/health/queues").status_code == 405
    assert ops.get("/api/v1/runs").status_code == 404


async def test_health_is_followed(ops: httpx.Client, engine: EngineProcess) -> None:
    """A load balancer that watches gRPC health is told at once, and counts once it leaves."""
    method = "/grpc.health.v1.Health/Watch"
    async with grpc.aio.insecure_channel(engine.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
    wait_until(
        lambda: any(key[0] == "run_engine_grpc_requests_total" and method in key for key in samples(ops)), method
    )
