"""The skill in Node over gRPC: runs use it as its README and docs/grpc-skills.md say, and it pays for nothing twice."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import REPOSITORY, ManagedProcess, clean_environment

EXAMPLE = REPOSITORY / "examples" / "node-grpc-skill"
README = (EXAMPLE / "README.md").read_text()
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="no node"),
    pytest.mark.skipif(
        not (EXAMPLE / "node_modules").exists(), reason="no packages of node-grpc-skill: .ci/browser.sh"
    ),
]


class NodeSkill(ManagedProcess):
    """The example's server, answering at `address` once constructed."""

    def __init__(self, folder: Path) -> None:
        """Start it and wait until it listens."""
        assert NODE is not None
        super().__init__([NODE, str(EXAMPLE / "skill.js"), "0"], log_path=folder / "node.log")
        self.address = self.wait_for_line("skills listening on grpc://")


@pytest.fixture(scope="module")
def skill(folder: Path) -> Iterator[NodeSkill]:
    """The module's server."""
    with NodeSkill(folder) as process:
        yield process


@pytest.fixture(scope="module")
def engine(stack: object, fresh_database_url: str, skill: NodeSkill, folder: Path) -> Iterator[EngineProcess]:
    """An engine whose target map is the README's."""
    (variable,) = re.findall(r"RUNENGINE_SKILLS='(\S+)' make dev", README)
    skills = variable.replace("127.0.0.1:7006", skill.address)
    settings = EngineSettings(
        database_url=fresh_database_url, redis_url=None, skills=skills, folder=folder, environment={}
    )
    with EngineProcess(settings) as process:
        yield process


def request_for(title: str, run_id: str = "r1") -> skill_runner_pb2.ExecuteRequest:
    """What an engine would send."""
    given = json.dumps({"title": title}).encode()
    request = skill_runner_pb2.ExecuteRequest(
        skill_id="color.palette",
        idempotency_key=f"{run_id}/choose_colors/{title}",
        input_json=given,
        input_hash=hashlib.sha256(given).hexdigest(),
    )
    request.heartbeat_interval.FromSeconds(5)
    return request


def test_the_readme(engine: EngineProcess) -> None:
    """Its commands register the workflow and run it twice, the second time from the cache."""
    install, commands = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    scripts = json.loads((EXAMPLE / "package.json").read_text())["scripts"]
    assert install.splitlines() == ["npm ci", "npm start"]
    assert scripts["start"] == "node skill.js"
    script = commands.replace("source .dev/env\n", "").replace("$PWD/.venv/bin", str(Path(sys.executable).parent))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=REPOSITORY,
        env={**clean_environment(), "RUNENGINE_TARGET": engine.target, "TOKEN": TOKENS.admin, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 steps: 1 completed" in done.stdout
    assert "1 steps: 1 skipped" in done.stdout


@pytest.mark.anyio
async def test_the_skills_own_failure(engine: EngineProcess) -> None:
    """A failure arrives with the code that the skill gave it, and is not tried again."""
    async with engine.client() as client:
        handle = await client.start("palette", {"title": ""})
        run = await handle.wait()
        assert run.error is not None
        assert (run.error.code, run.failed_step) == ("NO_TITLE", "choose_colors")
        assert [step.attempt async for step in client.list_steps(handle.id)] == [1]


def test_nothing_is_done_twice(skill: NodeSkill) -> None:
    """Calls with one key share the work that goes on, a later one is given its result, a lost one leaves it running."""
    with grpc.insecure_channel(skill.address) as channel, ThreadPoolExecutor() as threads:
        execute = skill_runner_pb2_grpc.SkillRunnerServiceStub(channel).Execute
        lost = execute(request_for("Summer", "r2"))
        assert next(lost).accepted.attached is False
        lost.cancel()
        both = list(threads.map(lambda _: list(execute(request_for("Summer", "r2"))), range(2)))
        later = list(execute(request_for("Summer", "r2")))
    assert [answer[0].accepted.attached for answer in both] == [True, True]
    assert later[0].accepted.replayed
    results = {answer[-1].result.output_json for answer in (*both, later)}
    assert len(results) == 1
    assert len(json.loads(results.pop())["colors"]) == 5


def test_unknown_skills(skill: NodeSkill) -> None:
    """A skill that is not there is NOT_FOUND, which the engine does not try again."""
    request = request_for("x")
    request.skill_id = "color.unknown"
    with grpc.insecure_channel(skill.address) as channel, pytest.raises(grpc.RpcError) as refused:
        list(skill_runner_pb2_grpc.SkillRunnerServiceStub(channel).Execute(request))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_page_shows_the_code() -> None:
    """What docs/grpc-skills.md shows of the example is there, word for word, and its target map is one."""
    page = (REPOSITORY / "docs" / "grpc-skills.md").read_text()
    code = "".join((EXAMPLE / name).read_text() for name in ("skill.js", "calls.js"))
    shown = re.findall(r"^```js\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(shown) == 3
    assert [block for block in shown if block not in code] == []
    (line,) = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    check = f"{line}\n{sys.executable} -m runengine_server config check"
    environment = {**clean_environment(), "DATABASE_URL": "postgresql://127.0.0.1/x", "RUNENGINE_ANONYMOUS": "true"}
    done = subprocess.run(
        ["bash", "-euc", check], cwd=REPOSITORY, env={**environment, "PATH": os.environ["PATH"]}, capture_output=True,
        text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
