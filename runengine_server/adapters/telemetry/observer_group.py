"""Tells several observers of the same facts; one that raises keeps neither the others nor the engine from going on."""

import logging
from collections.abc import Sequence

from runengine_server.domain.cache import CacheKey
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, RunKey
from runengine_server.domain.states import CacheTier, OutputSource
from runengine_server.ports.observer import Observer

_log = logging.getLogger("runengine.observer")


class ObserverGroup:
    """Observer that passes every fact to each of its members, in their order; without members it is silent."""

    def __init__(self, members: Sequence[Observer]) -> None:
        """Tell `members`."""
        self._members = tuple(members)

    def run_started(self, run_id: RunId, workflow_name: str) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.run_started(run_id, workflow_name)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def run_completed(self, run_id: RunId, duration_ms: int) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.run_completed(run_id, duration_ms)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def run_failed(self, run_id: RunId, failed_step: str, code: str) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.run_failed(run_id, failed_step, code)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def run_cancelled(self, run_id: RunId) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.run_cancelled(run_id)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def step_started(self, run_id: RunId, step_id: str, skill_id: str) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.step_started(run_id, step_id, skill_id)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def step_completed(self, run_id: RunId, step_id: str, skill_id: str, duration_ms: int) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.step_completed(run_id, step_id, skill_id, duration_ms)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def step_skipped(self, run_id: RunId, step_id: str, skill_id: str, source: OutputSource) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.step_skipped(run_id, step_id, skill_id, source)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def step_failed(self, run_id: RunId, step_id: str, skill_id: str, failure: Failure, attempt: int) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.step_failed(run_id, step_id, skill_id, failure, attempt)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def cache_hit(self, key: CacheKey, tier: CacheTier) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.cache_hit(key, tier)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def cache_miss(self, key: CacheKey) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.cache_miss(key)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def results_dropped(self, count: int) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.results_dropped(count)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def runs_changed(self, runs: Sequence[RunKey]) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.runs_changed(runs)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def work_left(self) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.work_left()
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def runs_stopped(self, runs: Sequence[RunKey]) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.runs_stopped(runs)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def database_unavailable(self, problem: str) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.database_unavailable(problem)
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def engine_lost(self) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.engine_lost()
            except Exception:  # an observer must not fail the engine
                _complain(member)

    def internal_failure(self, what: str, error: BaseException) -> None:
        """See the port."""
        for member in self._members:
            try:
                member.internal_failure(what, error)
            except Exception:  # an observer must not fail the engine
                _complain(member)


def _complain(member: Observer) -> None:
    _log.exception("[RunEngine] Observer failed: observer=%s", type(member).__name__)
