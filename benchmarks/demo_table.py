"""How long a newcomer waits: from `git clone` and `make demo` until the first step of the example runs.

Registries are warm where pip's cache is: run it twice, and the second is the figure.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from benchmarks.conditions import REPOSITORY, machine_conditions
from benchmarks.figures import Figures, Say
from benchmarks.result import Result
from examples.campaign.child import clean_environment

# Of the run or of a step, whichever the demo, which looks from outside, gets to see first.
_FIRST_STEP: Final = re.compile(r"\d\d:\d\d:\d\d +(\S+ +)?(running|completed)\b")
_LINES_SHOWN: Final = 20


class DemoError(RuntimeError):
    """The demo failed; the message has the end of what it printed."""


def measure(databases: None, options: argparse.Namespace, say: Say) -> Result:
    """The demo has been run `reps` times; it starts databases of its own."""
    facts, figures = machine_conditions(), Figures(say)
    for _ in range(options.reps):
        with TemporaryDirectory(prefix="runengine-bench-") as name:
            folder = Path(name)
            if options.here:
                command = [sys.executable, "-m", "examples.campaign.demo", "--output", str(folder / "demo")]
                time_demo("demo in this environment", command, REPOSITORY, figures)
            else:
                script = f"git clone --quiet --no-local {REPOSITORY} clone && exec make -C clone demo"
                time_demo("make demo from a fresh clone", ["sh", "-ec", script], folder, figures)
    return Result(conditions=facts, rows=figures.rows(), text=figures.text())


def time_demo(work: str, command: Sequence[str], folder: Path, figures: Figures) -> None:
    """The command has run, and when its first step ran and when it ended are among the figures.

    Raises:
        DemoError: it failed.
    """
    begun, lines, has_begun = perf_counter(), [], False
    environment = {**clean_environment(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                if not has_begun and _FIRST_STEP.match(line):
                    has_begun = True
                    figures.add(work, "until the first step runs", "s", perf_counter() - begun)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        raise DemoError(f"status {process.returncode}:\n{''.join(lines[-_LINES_SHOWN:])}")
    figures.add(work, "until everything was shown", "s", perf_counter() - begun)
