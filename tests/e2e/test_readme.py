"""Every command and snippet of README.md works as it is printed."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.processes import REPOSITORY, ManagedProcess, clean_environment

pytest.importorskip("av", reason="the campaign extra is not installed")

README = (REPOSITORY / "README.md").read_text()
MAKE_COMMANDS = {
    "demo": "-m examples.campaign.demo",
    "test": "-m pytest",
    "dev": "-m examples.campaign.dev",
}
BLOCK_S_MAX = 120


def blocks(language: str, containing: str = "") -> list[str]:
    """The README's code blocks of a language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [block for block in found if containing in block]


def block(language: str, containing: str) -> str:
    (found,) = blocks(language, containing)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Development:
    """What `make dev` runs, with the README's own skill beside the campaign's."""

    folder: Path

    def bash(self, script: str) -> str:
        """The output of a block of shell commands, run where it finds the files that the README had the reader make."""
        script = script.replace("source .dev/env", f"source {self.folder}/dev/env")
        script = script.replace("$PWD/.venv/bin", str(Path(sys.executable).parent))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=BLOCK_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Development]:
    """`make dev` as the section on skills starts it; everything else in the README needs no more."""
    # Not below pytest's own folder, which root's database account could not enter.
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    (folder / "protos").symlink_to(REPOSITORY / "protos")
    port = free_port()
    greeting = folder / "greeting.py"
    program = block("python", "serve_skills").replace("127.0.0.1:7002", f"127.0.0.1:{port}")
    greeting.write_text(program.replace('"artifacts"', repr(str(folder / "artifacts"))))
    (folder / "hello.yaml").write_text(block("yaml", "workflowName"))
    (variable,) = re.findall(r"^RUNENGINE_SKILLS='(\S+)' make dev$", README, re.MULTILINE)
    dev = [sys.executable, "-m", "examples.campaign.dev", "--folder", folder / "dev"]
    dev += [part for name in ("grpc", "http", "ops") for part in (f"--{name}-address", "127.0.0.1:0")]
    with (
        ManagedProcess(
            [sys.executable, greeting], log_path=folder / "greeting.log", environment={"PYTHONPATH": str(REPOSITORY)}
        ),
        ManagedProcess(
            dev, log_path=folder / "dev.log", environment={"RUNENGINE_SKILLS": variable.replace("7002", str(port))}
        ) as process,
    ):
        process.wait_for_line("The same lines are in ", timeout_s=90)
        yield Development(folder=folder)
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(30) == 0
    assert not (folder / "dev" / "env").exists(), "a token that is worth nothing was left behind"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_block_is_known() -> None:
    """No block of the README goes untested: a new one belongs to one of the tests below."""
    tested = ("curl -sS", "intro.update", "grpcurl", "hello.yaml")
    shell = [*blocks("sh", "make "), *(block("sh", containing) for containing in tested)]
    assert sorted(blocks("sh")) == sorted(shell)
    assert len(blocks("python")) == 2
    assert len(blocks("yaml")) == 1


def test_make_targets() -> None:
    """Every make command of the README is a target that runs what the other tests run."""
    targets = re.findall(r"\bmake ([a-z-]+)", "".join(blocks("sh")))
    assert set(targets) == set(MAKE_COMMANDS)
    for target, command in MAKE_COMMANDS.items():
        planned = subprocess.run(
            ["make", "--dry-run", target],
            cwd=REPOSITORY,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert command in planned.stdout


def test_curl(development: Development) -> None:
    """The commands of curl start a run, follow it to its end, and change it as the README says."""
    told = development.bash(block("sh", "curl -sS"))
    assert "event: end" in told
    assert '"status":"completed"' in told
    assert "Update run queued - 4 steps will be re-executed" in told


def test_quick_tour(development: Development) -> None:
    """The tour builds, plans, updates twice and lists, with the counts that the README names."""
    told = development.bash(block("sh", "intro.update"))
    assert "13 steps: 13 completed" in told
    assert "Update run queued - 4 steps will be re-executed" in told
    assert told.count("13 steps: 4 completed, 9 skipped") >= 2
    assert "9 are reused" in told


def test_debugging_clients(development: Development) -> None:
    """grpcurl and buf get answers from the development server without any proto file."""
    told = development.bash(f"source .dev/env\nPATH=$PWD/.venv/bin:$PATH\n{block('sh', 'grpcurl')}")
    assert "campaign.build.v1" in told


def test_python_snippet(development: Development) -> None:
    """The Python program builds, updates and reports what was reused."""
    program = development.folder / "program.py"
    program.write_text(block("python", "RunEngineClient"))
    told = development.bash(f"source .dev/env\nPYTHONPATH={REPOSITORY} {sys.executable} program.py")
    assert "Update run queued - 4 steps will be re-executed\n4 executed, 9 reused\n" in told


def test_own_skill(development: Development) -> None:
    """The skill and the workflow of the README run."""
    told = development.bash(block("sh", "hello.yaml"))
    assert "1 steps: 1 completed" in told


def test_linked_files_exist() -> None:
    """No link of the README leads nowhere."""
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
