"""Starts a Python module as a child process that ends with this one, and reads what it says until it is ready."""

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Self

from examples.campaign.tethered import STOP_S_MAX

REPOSITORY = Path(__file__).resolve().parents[2]

# A cold file system has taken 15 s to import everything once.
READY_S_MAX = 90.0

_TAIL_LINES = 20


class ChildError(RuntimeError):
    """A child process did not become ready, or ended; the message has the end of what it printed."""


class Child:
    """One running module; leave its block, or die, and it stops."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> None:
        """The child has been started.

        Args:
            name: what people call it.
            command: the module and its arguments.
            environment: all of its environment.
            on_line: called in another thread with every line it prints, to either stream.
        """
        self.name = name
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._is_awaited = True
        self._process = subprocess.Popen(
            [sys.executable, "-m", "examples.campaign.tethered", *command],
            cwd=REPOSITORY,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A session of its own: a terminal's Ctrl-C is for us, who then stop the children in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"{name}-output", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """The child itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def wait_for(self, is_last: Callable[[str], bool]) -> list[str]:
        """The lines it printed, up to the one that says it is ready.

        Raises:
            ChildError: it ended before, or said nothing of the kind within READY_S_MAX.
        """
        seen: list[str] = []
        deadline = monotonic() + READY_S_MAX
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - monotonic()))
            except Empty:
                raise ChildError(f"{self.name} is not ready after {READY_S_MAX:.0f} s:\n{self.tail()}") from None
            if line is None:
                raise ChildError(f"{self.name} ended with status {self._process.wait()}:\n{self.tail()}")
            seen.append(line)
            if is_last(line):
                self._is_awaited = False
                return seen

    def wait_ended(self) -> int:
        """Its exit status, once it has ended by itself."""
        status = self._process.wait()
        self._reader.join()
        return status

    def tail(self) -> str:
        """The last lines it printed."""
        return "\n".join(self._tail)

    def stop(self) -> None:
        """The child has ended; in the worst case it was killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S_MAX + 5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1.0)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            self._tail.append(line)
            if self._is_awaited:
                self._lines.put(line)
            self._on_line(line)
        self._lines.put(None)


def clean_environment() -> dict[str, str]:
    """This process's environment without the settings that would lead a server elsewhere."""
    foreign = ("RUNENGINE_", "CAMPAIGN_", "DATABASE_URL", "REDIS_URL", "TOKEN", "PG")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
