"""Every command of the pages for a first day (quickstart, troubleshooting, operations) works as it is printed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ..support.documents import blocks, shape
from ..support.http_ports import ports_of
from ..support.processes import ManagedProcess, clean_environment

pytest.importorskip("av", reason="the campaign extra is not installed")

BLOCK_S_MAX = 120


def has_shape(printed: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether an answer has every member that the document prints, with its type."""
    return shape(printed) == shape({key: answer[key] for key in printed})


@dataclass(slots=True)
class Shell:
    """A shell in the folder of `make dev`; the documents' ports are replaced by those that were free."""

    folder: Path
    ports: dict[str, str]
    run_id: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def bash(self, block: str) -> str:
        """What a block prints."""
        for address, actual in self.ports.items():
            block = block.replace(address, actual)
        script = f"source .dev/env\nRUN={self.run_id}\nPATH={Path(sys.executable).parent}:$PATH\n{block}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=clean_environment() | self.environment,
            capture_output=True,
            text=True,
            timeout=BLOCK_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Beside a running `make dev`."""
    folder = tmp_path_factory.mktemp("documents")
    addresses = [part for name in ("grpc", "http", "ops") for part in (f"--{name}-address", "127.0.0.1:0")]
    command = [sys.executable, "-m", "examples.campaign.dev", "--folder", folder / ".dev", *addresses]
    with ManagedProcess(command, log_path=folder / "dev.log") as process:
        process.wait_for_line("The same lines are in ", timeout_s=90)
        yield Shell(folder=folder, ports=ports_of(process.log))


def test_quickstart(shell: Shell) -> None:
    """The quickstart's commands, in their order, answer as printed there."""
    source, trigger, status, events, update, artifacts, cancel, health = blocks("docs/quickstart.md", "sh")
    shell.bash(source)
    answers = [json.loads(block) for block in blocks("docs/quickstart.md", "json")]
    started = json.loads(shell.bash(trigger))
    assert started == answers[0] | {"runId": started["runId"]}
    shell.run_id = started["runId"]
    run = json.loads(shell.bash(status))
    assert has_shape(answers[1], run | {"startedAt": run.get("startedAt", run["createdAt"])})
    assert run["stepsSummary"]["total"] == 13
    told = shell.bash(events)
    assert told.startswith("id: ")
    assert "event: end" in told
    assert json.loads(shell.bash(status))["stepsSummary"]["completed"] == 13
    updated = json.loads(shell.bash(update))
    assert updated == answers[2] | {"runId": updated["runId"]}
    assert len(json.loads(shell.bash(artifacts))["artifacts"]) == 19
    assert json.loads(shell.bash(cancel))["status"] == "completed"
    told = shell.bash(health)
    assert "run_engine_cache_hit_rate" in told
    queue, _ = json.JSONDecoder().raw_decode(told)
    assert queue["enginesAlive"] == 1


def test_troubleshooting(shell: Shell) -> None:
    """Every command of the troubleshooting page works on a server that is well."""
    assert shell.run_id, "the quickstart comes first"
    shell.environment["RUNENGINE_ANONYMOUS"] = "true"  # as the page says for `make dev`
    for block in blocks("docs/troubleshooting.md", "sh"):
        told = shell.bash(block)
        assert told.strip()


def test_operations(shell: Shell) -> None:
    """The commands of the page on operations answer, the queue as it is printed there but for what stands for more."""
    (script,) = blocks("docs/operations.md", "bash")
    (printed,) = (json.loads(block) for block in blocks("docs/operations.md", "json"))
    told = shell.bash(script)
    assert "run_engine_cache_hit_rate" in told
    queue, _ = json.JSONDecoder().raw_decode(told)
    assert has_shape({name: each for name, each in printed.items() if name not in ("total", "skills")}, queue)
    assert queue.keys() == printed.keys()
    for depths in (printed["total"], printed["skills"][0]["depths"]):
        del depths["…"]
        assert has_shape(depths, queue["total"])
