"""Composes an engine as the server does, with the no-op skill inside it and its log going to /dev/null."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter

from benchmarks.workload import LOCAL_SKILL, output
from runengine_client.skills import SkillContext
from runengine_server.adapters.skills.local_runner import LocalSkillRunner
from runengine_server.adapters.telemetry.log_observer import LogObserver
from runengine_server.adapters.telemetry.logging_setup import LogFormat, LogSetup, logging_to
from runengine_server.app import Engine, SystemClock, run_engine
from runengine_server.config import Settings
from runengine_server.domain.ids import RunId

OnEnd = Callable[[RunId, float, str], None]
"""Told of a run's end: when, by `perf_counter`, and what went wrong, if anything."""


class EndObserver(LogObserver):
    """Logs as the server does, and notes when runs end."""

    def __init__(self, log: LogSetup, on_end: OnEnd) -> None:
        """Tell `on_end`."""
        super().__init__(log.writer.write, SystemClock(), is_json=log.is_json)
        self._on_end = on_end

    def run_completed(self, run_id: RunId, duration_ms: int) -> None:
        """See the port."""
        super().run_completed(run_id, duration_ms)
        self._on_end(run_id, perf_counter(), "")

    def run_failed(self, run_id: RunId, failed_step: str, code: str) -> None:
        """See the port."""
        super().run_failed(run_id, failed_step, code)
        self._on_end(run_id, perf_counter(), f"{failed_step} {code}")


@asynccontextmanager
async def engine_of(settings: Settings, on_end: OnEnd) -> AsyncIterator[Engine]:
    """A server runs inside the block: everything of `runengine-server serve` but the process."""
    local = LocalSkillRunner({LOCAL_SKILL: _noop}, is_inline=True)
    with _log_to_nowhere(settings) as log:
        async with run_engine(settings, log=EndObserver(log, on_end), local_skills=local) as engine:
            yield engine


@contextmanager
def _log_to_nowhere(settings: Settings) -> Iterator[LogSetup]:
    """The server's logging as the settings want it; /dev/null is no terminal, so lines are JSON."""
    with (
        Path(os.devnull).open("w") as sink,
        logging_to(sink, log_format=LogFormat(settings.log_format), level=settings.log_level) as log,
    ):
        yield log


def _noop(given: dict[str, object], context: SkillContext) -> dict[str, object]:
    return output(context.step_id)
