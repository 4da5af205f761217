"""Composes an engine as the server does, with the no-op skill inside it and its log going to /dev/null."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.graphs import output
from benchmarks.workload import DIGEST_SKILL, LOCAL_SKILL, digest_output
from runengine_client.skills import SkillContext
from runengine_server.adapters.clock import SystemClock
from runengine_server.adapters.skills.local_runner import LocalSkillRunner
from runengine_server.adapters.telemetry.log_observer import LogObserver
from runengine_server.adapters.telemetry.logging_setup import LogFormat, LogSetup, logging_to
from runengine_server.app import Engine, run_engine
from runengine_server.config import Settings
from runengine_server.domain.ids import RunId
from runengine_server.garbage import collect_rarely

OnEnd = Callable[[RunId, float, str], None]
"""Told of a run's end: when, by `perf_counter`, and what went wrong, if anything."""

OnStep = Callable[[RunId, str, float], None]
"""Told of a step whose completion is committed, and when, by `perf_counter`."""


def ignore_step(run_id: RunId, step_id: str, at: float) -> None:
    """Nobody wants to know."""


def _noop(given: dict[str, object], context: SkillContext) -> dict[str, object]:
    return output(context.step_id)


def _digest(given: dict[str, object], context: SkillContext) -> dict[str, object]:
    return digest_output(context.step_id, given)


NOOP: Mapping[str, Callable[..., Any]] = {LOCAL_SKILL: _noop, DIGEST_SKILL: _digest}
"""The skills of most tables."""


class EndObserver(LogObserver):
    """Logs as the server does, and notes when runs and steps end."""

    def __init__(self, log: LogSetup, on_end: OnEnd, on_step: OnStep) -> None:
        """Tell `on_end` and `on_step`."""
        super().__init__(log.writer.write, SystemClock(), is_json=log.is_json)
        self._on_end = on_end
        self._on_step = on_step

    def step_completed(self, run_id: RunId, step_id: str, skill_id: str, duration_ms: int) -> None:
        """See the port."""
        super().step_completed(run_id, step_id, skill_id, duration_ms)
        self._on_step(run_id, step_id, perf_counter())

    def run_completed(self, run_id: RunId, duration_ms: int) -> None:
        """See the port."""
        super().run_completed(run_id, duration_ms)
        self._on_end(run_id, perf_counter(), "")

    def run_failed(self, run_id: RunId, failed_step: str, code: str) -> None:
        """See the port."""
        super().run_failed(run_id, failed_step, code)
        self._on_end(run_id, perf_counter(), f"{failed_step} {code}")


@asynccontextmanager
async def engine_of(
    settings: Settings,
    on_end: OnEnd,
    *,
    on_step: OnStep = ignore_step,
    skills: Mapping[str, Callable[..., Any]] = NOOP,
) -> AsyncIterator[Engine]:
    """A server runs inside the block: everything of `runengine-server serve` but the process."""
    local = LocalSkillRunner(skills, is_inline=True)
    with _log_to_nowhere(settings) as log:
        collect_rarely()
        async with run_engine(settings, log=EndObserver(log, on_end, on_step), local_skills=local) as engine:
            yield engine


@contextmanager
def _log_to_nowhere(settings: Settings) -> Iterator[LogSetup]:
    """The server's logging as the settings want it; /dev/null is no terminal, so lines are JSON."""
    with (
        Path(os.devnull).open("w") as sink,
        logging_to(sink, log_format=LogFormat(settings.log_format), level=settings.log_level) as log,
    ):
        yield log
