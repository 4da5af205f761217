"""The Node example for real: its skills take part over HTTP, its service calls the engine, and nothing is lost."""

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from runengine_client import RunHandle
from runengine_client.states import OutputSource, RunStatus
from runengine_server.adapters.embedded.port import free_port

from ..support.documents import blocks
from ..support.engine_process import EngineProcess, EngineSettings
from ..support.processes import REPOSITORY, ManagedProcess, wait_until

EXAMPLE = REPOSITORY / "examples" / "node-skill-runner"
NODE = shutil.which("node")
BRIEF = {"brief": {"title": "Summer Sale Campaign", "style": "energetic"}}
NOTES = 12

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(NODE is None, reason="no node")]


class NodeSkills(ManagedProcess):
    """The example's skills, with a journal of what they did."""

    def __init__(self, folder: Path, *, port: int = 0, note_ms: int = 20) -> None:
        """Start them and wait until they listen; what an earlier process finished is remembered."""
        self._journal = folder / "journal.jsonl"
        environment = {"JOURNAL": str(self._journal), "NOTE_MS": str(note_ms), "SKILL_TOKEN": "node-secret"}
        assert NODE is not None
        command = [NODE, str(EXAMPLE / "src" / "main.js"), str(port)]
        super().__init__(command, log_path=folder / "node.log", environment=environment)
        self.url = self.wait_for_line("skills listening on ")

    def started(self) -> Counter[str]:
        """How often work was begun, by skill."""
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return Counter(record["skillId"] for record in records if record["event"] == "started")

    def wait_for(self, skill_id: str, count: int = 1) -> None:
        """The skill's work has begun so often."""
        wait_until(lambda: self.started()[skill_id] == count, f"{skill_id} started {count} times")


Engines = Callable[..., EngineProcess]


@pytest.fixture
def skills(tmp_path: Path) -> Iterator[NodeSkills]:
    """The example's skills, slow enough to be interrupted."""
    with NodeSkills(tmp_path, note_ms=150) as process:
        yield process


@pytest.fixture
def engines(stack: Any, fresh_database_url: str, skills: NodeSkills, tmp_path: Path) -> Iterator[Engines]:
    """Starts engines of one database that call these skills."""
    environment = {
        "RUNENGINE_WORKFLOW_DIR": str(EXAMPLE / "workflows"),
        "RUNENGINE_SKILL_TOKENS": f"{skills.url}=node-secret",
        "RUNENGINE_HEARTBEAT_INTERVAL_S": "0.3",
        "RUNENGINE_LEASE_S": "1.5",
    }
    settings = EngineSettings(
        database_url=fresh_database_url,
        redis_url=stack.redis_url,
        skills=f"node.*={skills.url}",
        folder=tmp_path,
        environment=environment,
    )
    with ExitStack() as processes:
        yield lambda name, **further: processes.enter_context(EngineProcess(settings, name, **further))


@pytest.fixture
async def unique() -> AsyncIterator[dict[str, Any]]:
    """A brief that no other test has had, so that nothing comes from the cache."""
    unique.count = getattr(unique, "count", 0) + 1  # type: ignore[attr-defined]
    yield {"brief": {"title": f"Summer Sale Campaign {'x' * unique.count}", "style": "energetic"}}  # type: ignore[attr-defined]


async def finish(engine: EngineProcess, run_id: str) -> None:
    """The run completes; both steps were executed, the jingle's output is whole."""
    async with engine.client() as client:
        with anyio.fail_after(40):
            assert (await client.run(run_id).result()).status is RunStatus.COMPLETED
        steps = [step async for step in client.list_steps(run_id, full=True)]
    assert {step.output_source for step in steps} == {OutputSource.EXECUTED}
    assert steps[1].output is not None
    assert len(str(steps[1].output["notes"]).split()) == NOTES


async def start(engine: EngineProcess, payload: dict[str, Any]) -> str:
    """A run on this engine."""
    async with engine.client() as client:
        handle: RunHandle = await client.start("campaign.build.v1", payload)
        return handle.id


async def test_the_service_builds_and_updates(engines: Engines, skills: NodeSkills, tmp_path: Path) -> None:
    """The quickstart's service triggers a run, which the Node skills execute; its update executes what is affected."""
    engine = engines("engine")
    assert NODE is not None
    campaign = ManagedProcess(
        [NODE, str(EXAMPLE / "src" / "campaign.js")],
        log_path=tmp_path / "campaign.log",
        environment={"RUNENGINE_URL": engine.http_url, "TOKEN": engine.token},
    )
    with campaign:
        assert await anyio.to_thread.run_sync(lambda: campaign.wait(timeout_s=60)) == 0, campaign.log
        said = campaign.log
    promised = re.findall(r"^```\n(run .*?)^```$", (EXAMPLE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert [re.sub(r"^run \S+", "run", line) for line in said.splitlines()] == [
        re.sub(r"^run \S+", "run", line) for line in promised[0].splitlines()
    ]
    assert skills.started() == {"node.slogan": 1, "node.jingle": 2}


def test_commands_of_the_readme(stack: Any, fresh_database_url: str, tmp_path: Path) -> None:
    """The README's commands, in their order: skills, an engine that calls them, and a service whose runs complete."""
    skills, server, service = blocks("examples/node-skill-runner/README.md", "bash")
    port = str(free_port())
    addresses = {f"RUNENGINE_{name}_ADDRESS": "127.0.0.1:0" for name in ("GRPC", "HTTP", "OPS")}
    environment = {"DATABASE_URL": fresh_database_url, "REDIS_URL": stack.redis_url, **addresses}
    environment |= {"RUNENGINE_ANONYMOUS": "true", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def running(name: str, script: str) -> ManagedProcess:
        command = ["bash", "-euc", script.replace("7005", port).replace("TOKEN=…", "TOKEN=any")]
        return ManagedProcess(command, log_path=tmp_path / f"{name}.log", environment=environment)

    with running("skills", skills) as runner, running("server", server) as engine:
        runner.wait_for_line("skills listening on ")
        url = engine.wait_for_line("HTTP and console on ")
        with running("service", service.replace("http://127.0.0.1:3001", url)) as campaign:
            assert campaign.wait(timeout_s=60) == 0, campaign.log
            assert "compose_jingle: completed (executed)" in campaign.log


async def test_an_engine_dies_between_202_and_callback(
    engines: Engines, skills: NodeSkills, unique: dict[str, Any]
) -> None:
    """The second engine asks again, joins the work that goes on, and gets its result: the work is done once."""
    first, second = engines("first"), engines("second")
    second.stop()  # so that the first one leases everything
    run_id = await start(first, unique)
    skills.wait_for("node.jingle")
    first.kill()
    second.cont()
    await finish(second, run_id)
    assert skills.started() == {"node.slogan": 1, "node.jingle": 1}


async def test_callbacks_reach_another_engine(engines: Engines, skills: NodeSkills, unique: dict[str, Any]) -> None:
    """With one address for all callbacks the engine that answers there passes them on to the one that waits."""
    port = free_port()
    front = engines("front", RUNENGINE_HTTP_ADDRESS=f"127.0.0.1:{port}")
    back = engines("back", RUNENGINE_CALLBACK_URL=f"http://127.0.0.1:{port}/")
    front.stop()  # so that the other one leases everything
    run_id = await start(back, unique)
    skills.wait_for("node.jingle")
    front.cont()
    await finish(back, run_id)
    assert "stepId=compose_jingle, durationMs" in back.log and "compose_jingle" not in front.log
    assert skills.started()["node.jingle"] == 1


async def test_a_result_outlives_the_engine_that_asked(
    engines: Engines, skills: NodeSkills, unique: dict[str, Any]
) -> None:
    """Where callbacks go to an address of their own the result is stored before anybody has taken the step over."""
    port = free_port()
    front = {"RUNENGINE_HTTP_ADDRESS": f"127.0.0.1:{port}", "RUNENGINE_CALLBACK_URL": f"http://127.0.0.1:{port}"}
    first = engines("first", RUNENGINE_CALLBACK_URL=f"http://127.0.0.1:{port}")
    run_id = await start(first, unique)
    skills.wait_for("node.jingle")
    first.kill()
    await finish(engines("second", **front), run_id)
    assert skills.started() == {"node.slogan": 1, "node.jingle": 1}


async def test_a_runner_restarts(engines: Engines, skills: NodeSkills, unique: dict[str, Any], tmp_path: Path) -> None:
    """Work that died with its runner is noticed by its silence and done again by the next one."""
    engine = engines("engine")
    run_id = await start(engine, unique)
    skills.wait_for("node.jingle")
    skills.kill()
    port = int(skills.url.partition("127.0.0.1:")[2].partition("/")[0])
    with NodeSkills(tmp_path, port=port) as again:
        await finish(engine, run_id)
        assert again.started() == {"node.slogan": 1, "node.jingle": 2}
    async with engine.client() as client:
        steps = [step async for step in client.list_steps(run_id)]
    assert steps[1].attempt == 2
