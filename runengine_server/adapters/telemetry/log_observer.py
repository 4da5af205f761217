"""Says what happens in the words of the quickstart: one line an event, for people or, as JSON, for machines.

JSON lines carry `timestamp`, `level`, `event`, the fields of the line under their names in it, and the line itself as
`message`; events are `run_started`, `run_completed`, `run_failed`, `run_cancelled`, `step_started`, `step_completed`,
`step_skipped`, `step_failed`, `cache_hit` and `cache_miss`, and of the engine itself `database_unavailable`,
`engine_lost` and `internal_failure`. Lines about a traced run carry its `trace_id` (docs/tracing.md). Payloads, outputs
and what a skill's error says are never logged, only its code.

These lines do not go through logging's handlers, because a step has three of them: rendering one takes 1 µs here (3 µs
as JSON), 25-35 µs there. Their levels are those of the loggers `runengine.run`, `runengine.step`, `runengine.cache` and
`runengine.engine`.
"""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence

import orjson

from runengine_server.domain.cache import CacheKey
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, RunKey
from runengine_server.domain.states import CacheTier, OutputSource
from runengine_server.ports.clock import Clock

_RUN = logging.getLogger("runengine.run")
_STEP = logging.getLogger("runengine.step")
_CACHE = logging.getLogger("runengine.cache")
_ENGINE = logging.getLogger("runengine.engine")

# While the database is away every loop of the engine says so several times a second.
_REPEAT_S = 5.0
_PROBLEM_CHARACTERS_MAX = 200

_SKIPPED_BECAUSE = {
    OutputSource.CACHE_HOT: "cache hit",
    OutputSource.CACHE_COLD: "cache hit",
    OutputSource.BASE_RUN: "base run",
    OutputSource.JOINED: "joined",
    OutputSource.EXECUTED: "executed",
}
_TIER = {CacheTier.HOT: "Redis", CacheTier.COLD: "DB"}

Fields = Mapping[str, str | int | None]


class LogObserver:
    """Observer that logs; costs one check where the level says no."""

    def __init__(self, write: Callable[[bytes], None], clock: Clock, *, is_json: bool) -> None:
        """Hand each finished line to `write`, newline included."""
        self._write = write
        self._clock = clock
        self._is_json = is_json
        self._unavailable_at: float | None = None
        self._trace_id_of: Callable[[RunId], str | None] = lambda _: None

    def find_traces_by(self, trace_id_of: Callable[[RunId], str | None]) -> None:
        """JSON lines about a run say its trace from now on."""
        self._trace_id_of = trace_id_of

    def run_started(self, run_id: RunId, workflow_name: str) -> None:
        """See the port."""
        if _RUN.isEnabledFor(logging.INFO):
            line = f"[RunEngine] Run started: runId={run_id}, workflow={workflow_name}"
            self._say("info", "run_started", line, {"runId": run_id, "workflow": workflow_name})

    def run_completed(self, run_id: RunId, duration_ms: int) -> None:
        """See the port."""
        if _RUN.isEnabledFor(logging.INFO):
            line = f"[RunEngine] Run completed: runId={run_id}, totalDurationMs={duration_ms}"
            self._say("info", "run_completed", line, {"runId": run_id, "totalDurationMs": duration_ms})

    def run_failed(self, run_id: RunId, failed_step: str, code: str) -> None:
        """See the port; a run that failed without a step (its deadline) has `-` in its place."""
        if _RUN.isEnabledFor(logging.ERROR):
            code = _one_word(code)
            line = f"[RunEngine] Run failed: runId={run_id}, failedStep={failed_step or '-'}, error={code}"
            self._say("error", "run_failed", line, {"runId": run_id, "failedStep": failed_step or None, "error": code})

    def run_cancelled(self, run_id: RunId) -> None:
        """See the port."""
        if _RUN.isEnabledFor(logging.INFO):
            self._say("info", "run_cancelled", f"[RunEngine] Run cancelled: runId={run_id}", {"runId": run_id})

    def step_started(self, run_id: RunId, step_id: str, skill_id: str) -> None:
        """See the port."""
        if _STEP.isEnabledFor(logging.INFO):
            line = f"[RunEngine] Step started: runId={run_id}, stepId={step_id}"
            self._say("info", "step_started", line, {"runId": run_id, "stepId": step_id})

    def step_completed(self, run_id: RunId, step_id: str, skill_id: str, duration_ms: int) -> None:
        """See the port."""
        if _STEP.isEnabledFor(logging.INFO):
            line = f"[RunEngine] Step completed: runId={run_id}, stepId={step_id}, durationMs={duration_ms}"
            fields: Fields = {"runId": run_id, "stepId": step_id, "durationMs": duration_ms}
            self._say("info", "step_completed", line, fields)

    def step_skipped(self, run_id: RunId, step_id: str, skill_id: str, source: OutputSource) -> None:
        """See the port."""
        if _STEP.isEnabledFor(logging.INFO):
            because = _SKIPPED_BECAUSE[source]
            line = f"[RunEngine] Step skipped ({because}): runId={run_id}, stepId={step_id}"
            fields: Fields = {"runId": run_id, "stepId": step_id, "outputSource": source.name}
            self._say("info", "step_skipped", line, fields)

    def step_failed(self, run_id: RunId, step_id: str, skill_id: str, failure: Failure, attempt: int) -> None:
        """See the port."""
        if _STEP.isEnabledFor(logging.WARNING):
            code = _one_word(failure.code)
            line = f"[RunEngine] Step failed: runId={run_id}, stepId={step_id}, error={code}, attempt={attempt}"
            fields: Fields = {"runId": run_id, "stepId": step_id, "error": code, "attempt": attempt}
            self._say("warning", "step_failed", line, fields)

    def cache_hit(self, key: CacheKey, tier: CacheTier) -> None:
        """See the port."""
        if _CACHE.isEnabledFor(logging.INFO):
            name = _TIER[tier]
            line = f"[RunEngine] Cache hit ({name}): {_short(key)}"
            self._say("info", "cache_hit", line, {**_key_fields(key), "tier": tier.name})

    def cache_miss(self, key: CacheKey) -> None:
        """See the port."""
        if _CACHE.isEnabledFor(logging.INFO):
            self._say("info", "cache_miss", f"[RunEngine] Cache miss: {_short(key)}", _key_fields(key))

    def results_dropped(self, count: int) -> None:
        """Nothing to log."""

    def runs_changed(self, runs: Sequence[RunKey]) -> None:
        """Nothing to log."""

    def work_left(self) -> None:
        """Nothing to log."""

    def runs_stopped(self, runs: Sequence[RunKey]) -> None:
        """Nothing to log."""

    def database_unavailable(self, problem: str) -> None:
        """See the port; at most one line in 5 s."""
        now = self._clock.monotonic()
        is_repeated = self._unavailable_at is not None and now - self._unavailable_at < _REPEAT_S
        if is_repeated or not _ENGINE.isEnabledFor(logging.WARNING):
            return
        self._unavailable_at = now
        problem = " ".join(problem.split())[:_PROBLEM_CHARACTERS_MAX]
        line = f"[RunEngine] Database unavailable: error={problem}"
        self._say("warning", "database_unavailable", line, {"error": problem})

    def engine_lost(self) -> None:
        """See the port."""
        if _ENGINE.isEnabledFor(logging.WARNING):
            self._say("warning", "engine_lost", "[RunEngine] Engine lease lost: continuing under a new number", {})

    def internal_failure(self, what: str, error: BaseException) -> None:
        """See the port; with where it happened, but not the error's text, which may quote a payload."""
        if _ENGINE.isEnabledFor(logging.ERROR):
            kind = type(error).__name__
            where = "".join(traceback.format_tb(error.__traceback__))
            line = f"[RunEngine] Internal failure: {what}, error={kind}"
            shown = line if self._is_json or not where else f"{line}\n{where.rstrip()}"
            self._say("error", "internal_failure", shown, {"what": what, "error": kind, "traceback": where})

    def _say(self, level: str, event: str, line: str, fields: Fields) -> None:
        if self._is_json:
            now = self._clock.now()
            rendered = {"timestamp": now, "level": level, "event": event, **fields, "message": line}
            if (run_id := fields.get("runId")) and (trace_id := self._trace_id_of(RunId(str(run_id)))):
                rendered["trace_id"] = trace_id
            self._write(orjson.dumps(rendered, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
        else:
            self._write(f"{line}\n".encode())


def _short(key: CacheKey) -> str:
    return f"{key.workflow_name}:{key.step_id}:{key.input_hash[:6]}..."


def _key_fields(key: CacheKey) -> dict[str, str | int | None]:
    return {"workflow": key.workflow_name, "stepId": key.step_id, "inputHash": key.input_hash}


def _one_word(code: str) -> str:
    """The code, unless a skill's server chose one that would break the line or fill the disk."""
    return code if len(code) <= 64 and code.isprintable() else "INVALID_CODE"
