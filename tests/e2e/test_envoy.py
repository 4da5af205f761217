"""Requests of every kind go through the sample `deploy/envoy/envoy.yaml` to a real engine, events one by one."""

import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
import yaml

from runengine_client import RunEngineClient
from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_client.states import RunStatus

from ..support.connect_calls import CONTENT_TYPES, CallEnd, envelope, read_stream
from ..support.deploy_tools import DEPLOY, run, tool
from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import ManagedProcess, wait_until
from ..support.server_sent_events import read_events
from ..support.skill_server_process import SkillServerProcess
from .workflows import DEMO, demo, gated

pytestmark = pytest.mark.anyio

SAMPLE = DEPLOY / "envoy" / "envoy.yaml"
BEARER = {"authorization": f"Bearer {TOKENS.admin}"}


class Envoy(ManagedProcess):
    """Envoy with the sample's configuration, at ports of its own, in front of one engine."""

    def __init__(self, folder: Path, engine: EngineProcess) -> None:
        """Start it; it answers once constructed."""
        self.ports = {"grpc": free_port(), "http": free_port()}
        self.admin_port = free_port()
        config = yaml.safe_load(SAMPLE.read_text())
        config["admin"]["address"]["socket_address"]["port_value"] = self.admin_port
        for listener in config["static_resources"]["listeners"]:
            listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": self.ports[listener["name"]]}
        served = {"engine_grpc": engine.target, "engine_http": engine.http_url}
        for cluster in config["static_resources"]["clusters"]:
            [locality] = cluster["load_assignment"]["endpoints"]
            [endpoint] = locality["lb_endpoints"]
            address = {"address": "127.0.0.1", "port_value": port_of(served[cluster["name"]])}
            endpoint["endpoint"]["address"]["socket_address"] = address
            endpoint["endpoint"]["health_check_config"]["port_value"] = port_of(engine.ops_url)
        path = folder / "envoy.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [tool("envoy"), "--config-path", path, "--concurrency", "1", "--disable-hot-restart"]
        super().__init__(command, log_path=folder / "envoy.log")
        try:
            wait_until(lambda: self.healthy() == 2, "both clusters healthy", timeout_s=20)
        except BaseException:
            self.kill()
            raise

    @property
    def target(self) -> str:
        """Of gRPC."""
        return f"127.0.0.1:{self.ports['grpc']}"

    @property
    def url(self) -> str:
        """Of HTTP."""
        return f"http://127.0.0.1:{self.ports['http']}"

    def healthy(self) -> int:
        """How many clusters have an engine that is ready."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.admin_port}/clusters?format=json").json()
        except httpx.TransportError:
            return 0
        hosts = [host for cluster in answer["cluster_statuses"] for host in cluster.get("host_statuses", ())]
        return sum(
            host["health_status"].get("eds_health_status") == "HEALTHY"
            and not host["health_status"].get("failed_active_health_check")
            for host in hosts
        )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.fixture(scope="module")
def envoy(engine: EngineProcess, folder: Path) -> Iterator[Envoy]:
    """In front of the module's engine."""
    with Envoy(folder, engine) as process:
        yield process


def test_the_sample_is_valid() -> None:
    """Envoy itself accepts the file as it is shipped."""
    assert "OK" in run(tool("envoy"), "--mode", "validate", "--config-path", str(SAMPLE))


@pytest.mark.parametrize("door", ["grpc", "http"])
async def test_grpc(envoy: Envoy, door: str) -> None:
    """The client works through either port: native gRPC is told from what browsers speak."""
    async with RunEngineClient(f"127.0.0.1:{envoy.ports[door]}", token=TOKENS.admin) as client:
        await client.register_workflow(demo())
        handle = await client.start(DEMO, {"brief": f"through {door}"})
        assert (await handle.wait()).status is RunStatus.COMPLETED
        assert [item async for item in client.watch(handle.id)]


async def test_http_and_console(envoy: Envoy) -> None:
    """REST with its refusals and the console come through as they are."""
    async with httpx.AsyncClient(base_url=envoy.url) as http:
        assert (await http.get("/api/v1/runs", headers=BEARER)).status_code == 200
        refused = await http.get("/api/v1/runs")
        assert refused.status_code == 401 and refused.headers["content-type"].startswith("application/")
        page = await http.get("/")
        assert page.status_code == 200 and "text/html" in page.headers["content-type"]


async def started(envoy: Envoy, gate: str) -> str:
    async with RunEngineClient(envoy.target, token=TOKENS.admin) as client:
        await client.register_workflow(gated())
        return (await client.start("gated", {"gate": gate})).id


async def test_events_arrive_one_by_one(envoy: Envoy, skills: SkillServerProcess) -> None:
    """An event stream is not held back: what happened is read before the run goes on."""
    run_id = await started(envoy, "sse")

    def read() -> list[str]:
        names = []
        with httpx.stream("GET", f"{envoy.url}/api/v1/runs/{run_id}/events", headers=BEARER, timeout=20) as answer:
            for event in read_events(answer.iter_lines()):
                if not names:
                    skills.open_gate("sse")
                names.append(event.name)
        return names

    assert len(await anyio.to_thread.run_sync(read)) > 2


@pytest.mark.parametrize("protocol", ["connect", "grpc-web", "grpc-web-text"])
async def test_browser_protocols(envoy: Envoy, skills: SkillServerProcess, protocol: str) -> None:
    """Connect and gRPC-Web watches come through message by message, and end well."""
    run_id = await started(envoy, protocol)
    body = envelope(protocol, pb.WatchRunRequest(run_id=run_id).SerializeToString())
    headers = {**BEARER, "content-type": CONTENT_TYPES[protocol]}
    found: list[bytes | CallEnd] = []
    async with (
        httpx.AsyncClient(timeout=20) as http,
        http.stream("POST", f"{envoy.url}/runengine.v1.RunEngine/WatchRun", headers=headers, content=body) as answer,
    ):
        assert answer.headers["content-type"] == CONTENT_TYPES[protocol]
        async for item in read_stream(protocol, answer):
            if not found:
                skills.open_gate(protocol)
            found.append(item)
    assert len(found) > 3
    assert found[-1] == CallEnd(code="ok")


async def test_quiet_streams_stay_open(envoy: Envoy) -> None:
    """No time limit of Envoy ends a stream on which nothing happens: both are off wherever requests are routed."""
    config = yaml.safe_load(SAMPLE.read_text())
    for listener in config["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        assert manager["stream_idle_timeout"] == "0s"
        routes = [route for host in manager["route_config"]["virtual_hosts"] for route in host["routes"]]
        assert routes and all(route["route"]["timeout"] == "0s" for route in routes)


async def test_an_engine_that_drains_gets_nothing_new(engine_settings: EngineSettings, tmp_path: Path) -> None:
    """Once /health/ready says no, Envoy sends nobody there."""
    with EngineProcess(engine_settings, "draining", RUNENGINE_DRAIN_S="30") as engine, Envoy(tmp_path, engine) as envoy:
        async with RunEngineClient(envoy.target, token=TOKENS.admin) as client:
            await client.register_workflow(gated())
            await client.start("gated", {"gate": "never"})
        engine.terminate()
        await anyio.to_thread.run_sync(lambda: wait_until(lambda: envoy.healthy() == 0, "out of both clusters"))
