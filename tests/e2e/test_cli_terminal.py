"""The command on a terminal: a live view by level with words and colours, and Ctrl-C as a person presses it."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.engine_process import TOKENS, EngineProcess
from ..support.processes import clean_environment
from ..support.skill_server_process import SkillServerProcess

RUNENGINE = Path(sys.executable).with_name("runengine")
WITHIN_S = 20.0
COLOUR = re.compile(r"\x1b\[(?:\d+;)*3[0-7]m")

WORKFLOW = """
workflowName: terminal.demo
version: 1.0.0
steps:
  - { stepId: plan, skillId: t.echo, inputSelector: { gate: "${{ trigger.gate }}" } }
  - { stepId: left, skillId: t.gated, dependsOn: [plan], inputSelector: { gate: "${{ trigger.gate }}" } }
  - { stepId: right, skillId: t.gated, dependsOn: [plan], inputSelector: { gate: "${{ trigger.gate }}", n: 2 } }
"""


class Terminal:
    """A command on a terminal of its own, which shows what a person would see."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        """Start the command, 100 columns wide and 40 lines high."""
        self.screen = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", RUNENGINE, *arguments],  # its controlling terminal, so that Ctrl-C reaches it
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
        )
        os.close(slave)

    def wait_for(self, text: str) -> None:
        """This has been shown."""
        deadline = time.monotonic() + WITHIN_S
        while text not in self.screen:
            assert time.monotonic() < deadline, f"{text!r} was not shown:\n{self.screen}"
            if not self._read():
                assert text in self.screen, f"ended without {text!r}:\n{self.screen}"

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._master, key)

    def wait(self) -> int:
        """Its exit status, once it has ended and all of it is shown."""
        deadline = time.monotonic() + WITHIN_S
        while self._read():
            assert time.monotonic() < deadline, self.screen
        return self.process.wait(WITHIN_S)

    def close(self) -> None:
        """It does not run any more."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WITHIN_S)
        os.close(self._master)

    def _read(self) -> bool:
        """Take over what has been written; False at the end."""
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if not ready:
            return True
        try:
            chunk = os.read(self._master, 65_536)
        except OSError:  # the other end of a terminal was closed
            return False
        self.screen += chunk.decode(errors="replace")
        return bool(chunk)


@pytest.fixture(scope="module")
def environment(engine: EngineProcess, folder: Path) -> dict[str, str]:
    """Of a person at a terminal, whose workflow is registered."""
    given = {
        **{name: value for name, value in clean_environment().items() if name not in ("NO_COLOR", "FORCE_COLOR", "CI")},
        "RUNENGINE_TARGET": engine.target,
        "TOKEN": TOKENS.admin,
        "TERM": "xterm-256color",
    }
    file = folder / "terminal.yaml"
    file.write_text(WORKFLOW)
    subprocess.run([RUNENGINE, "workflow", "register", file], env=given, check=True, capture_output=True)
    return given


@pytest.fixture
def gate() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals to close at the end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def follow(opened: list[Terminal], gate: str, *arguments: str, environment: dict[str, str]) -> Terminal:
    payload = json.dumps({"gate": gate})
    terminal = Terminal(
        "trigger", "terminal.demo", "--payload", payload, "--watch", *arguments, environment=environment
    )
    opened.append(terminal)
    return terminal


def test_live_view(
    environment: dict[str, str], terminals: list[Terminal], skills: SkillServerProcess, gate: str
) -> None:
    """Steps stand below their level, with the word of their status in its colour; the end is what remains."""
    terminal = follow(terminals, gate, environment=environment)
    terminal.wait_for("50% waiting")
    assert "level 1  2 in parallel" in terminal.screen
    skills.open_gate(gate)
    assert terminal.wait() == 0, terminal.screen
    last = terminal.screen[terminal.screen.rindex("level 0") :]
    assert re.search(r"level 0.*plan.*level 1  2 in parallel.*left.*right", last, re.DOTALL)
    assert len(re.findall(r"\x1b\[32mcompleted", last)) == 3
    assert "3 steps: 3 completed" in last


@pytest.mark.parametrize(
    ("arguments", "variables"), [(("--no-color",), {}), ((), {"NO_COLOR": "1"})], ids=["--no-color", "NO_COLOR"]
)
def test_without_colours(
    environment: dict[str, str],
    terminals: list[Terminal],
    skills: SkillServerProcess,
    gate: str,
    arguments: tuple[str, ...],
    variables: dict[str, str],
) -> None:
    """Asked for no colours, the view has the same words and none."""
    terminal = follow(terminals, gate, *arguments, environment={**environment, **variables})
    terminal.wait_for("50% waiting")
    skills.open_gate(gate)
    assert terminal.wait() == 0, terminal.screen
    assert "completed" in terminal.screen
    assert not COLOUR.search(terminal.screen)


def test_dumb_terminal(
    environment: dict[str, str], terminals: list[Terminal], skills: SkillServerProcess, gate: str
) -> None:
    """A terminal that cannot move its cursor gets lines."""
    terminal = follow(terminals, gate, environment={**environment, "TERM": "dumb"})
    terminal.wait_for("left  running")
    skills.open_gate(gate)
    assert terminal.wait() == 0, terminal.screen
    assert "\x1b[" not in terminal.screen


def test_ctrl_c(environment: dict[str, str], terminals: list[Terminal], skills: SkillServerProcess, gate: str) -> None:
    """Ctrl-C leaves the view and not the run: the command that resumes is shown, and finishes."""
    terminal = follow(terminals, gate, environment=environment)
    terminal.wait_for("50% waiting")
    terminal.press(b"\x03")
    assert terminal.wait() == 130, terminal.screen
    (resume,) = re.findall(r"Resume with: runengine (watch [0-9a-f-]+)", terminal.screen)
    assert "Traceback" not in terminal.screen
    skills.open_gate(gate)
    done = subprocess.run([RUNENGINE, *resume.split()], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
