"""Child processes of tests: started with their output in a file, waited for by what they say, always ended."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[2]

START_S_MAX = 30.0
END_S_MAX = 20.0
_POLL_S = 0.02
_LINES_SHOWN = 80

_alive: "list[ManagedProcess]" = []


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 10.0) -> None:
    """The condition has become true.

    Raises:
        AssertionError: not in time; `what` says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(_POLL_S)


class ManagedProcess:
    """A child with its log in a file; leaving the context kills it if it still runs.

    Start it on the main thread: it is told to die with the thread that started it, so that a killed pytest leaves
    nothing behind.
    """

    def __init__(
        self, command: Sequence[str | os.PathLike[str]], *, log_path: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the command in the repository, in a process group of its own.

        Args:
            command: the program and its arguments.
            log_path: gets both standard output and standard error.
            environment: variables on top of a clean copy of ours, which has none of RunEngine's.
        """
        self.log_path = log_path
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*_dying_with_us(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={**clean_environment(), **(environment or {})},
                start_new_session=True,
            )
        _alive.append(self)

    @property
    def log(self) -> str:
        """Everything it has written so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait_for_line(self, start: str, *, timeout_s: float = START_S_MAX) -> str:
        """The rest of the first line that starts like this, once it is complete.

        Raises:
            AssertionError: it ended first, or did not say it in time; with its log.
        """
        found: list[str] = []

        def is_said() -> bool:
            is_ended = not self.is_running
            lines = self.log.split("\n")[:-1]
            found.extend(line[len(start) :].strip() for line in lines if line.startswith(start))
            assert found or not is_ended, f"ended with {self.process.returncode} before {start!r}:\n{self.log}"
            return bool(found)

        try:
            wait_until(is_said, start, timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None
        return found[0]

    def wait_for_text(self, text: str, *, timeout_s: float = START_S_MAX) -> None:
        """It has written this somewhere.

        Raises:
            AssertionError: not in time.
        """
        wait_until(lambda: text in self.log, text, timeout_s=timeout_s)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM); returns at once."""
        self.process.terminate()

    def interrupt(self) -> None:
        """Press Ctrl-C (SIGINT); returns at once."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """It is dead (SIGKILL), and everything it started with it."""
        if self.is_running:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(END_S_MAX)
        if self in _alive:
            _alive.remove(self)

    def stop(self) -> None:
        """Freeze it (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let a frozen one go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def wait(self, *, timeout_s: float = END_S_MAX) -> int:
        """Its exit status, once it has ended.

        Raises:
            AssertionError: it did not end in time; with its log.
        """
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s:\n{self.log}") from None

    def __enter__(self) -> Self:
        """The process itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it if it still runs; show the end of its log where the block failed."""
        self.kill()
        if error is not None:
            error.add_note(f"--- {self.log_path.name} ---\n{_end_of(self.log)}")


def logs_of_open_processes() -> dict[str, str]:
    """The ends of the logs of all processes whose context is open, by file name; what a failed test is told by."""
    return {process.log_path.name: _end_of(process.log) for process in _alive}


def _end_of(log: str) -> str:
    return "\n".join(log.splitlines()[-_LINES_SHOWN:])


def clean_environment() -> dict[str, str]:
    """Our environment without anything that configures RunEngine, and with the repository importable."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RUNENGINE_", "OTEL_"))
        and name not in ("DATABASE_URL", "REDIS_URL", "TOKEN", "PYTHONPATH")
    }
    return {**kept, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default"}


def _dying_with_us() -> tuple[str, ...]:
    """A prefix that makes the kernel kill the command with the thread that started it; empty where there is none."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL") if setpriv else ()
