"""What the core tells whoever listens: logs, metrics, watchers. Never blocks, never raises."""

from collections.abc import Sequence
from typing import Protocol

from runengine_server.domain.cache import CacheKey
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, RunKey
from runengine_server.domain.states import CacheTier, OutputSource


class Observer(Protocol):
    """Facts, after they are committed (cache answers: as they come)."""

    def run_started(self, run_id: RunId, workflow_name: str) -> None:
        """A run's first step was leased (or it had nothing to execute)."""

    def run_completed(self, run_id: RunId, duration_ms: int) -> None:
        """A run ended well."""

    def run_failed(self, run_id: RunId, failed_step: str, code: str) -> None:
        """A run ended as failed."""

    def run_cancelled(self, run_id: RunId) -> None:
        """A run was cancelled."""

    def step_started(self, run_id: RunId, step_id: str, skill_id: str) -> None:
        """An attempt calls its skill."""

    def step_completed(self, run_id: RunId, step_id: str, skill_id: str, duration_ms: int) -> None:
        """A step's result is committed."""

    def step_skipped(self, run_id: RunId, step_id: str, skill_id: str, source: OutputSource) -> None:
        """A step uses an existing output."""

    def step_failed(self, run_id: RunId, step_id: str, skill_id: str, failure: Failure, attempt: int) -> None:
        """An attempt failed, finally or not."""

    def cache_hit(self, key: CacheKey, tier: CacheTier) -> None:
        """The cache had the output."""

    def cache_miss(self, key: CacheKey) -> None:
        """The cache had no usable output."""

    def results_dropped(self, count: int) -> None:
        """So many results came too late: their leases are gone, or their runs have ended."""

    def runs_changed(self, runs: Sequence[RunKey]) -> None:
        """These runs have new events."""

    def work_left(self) -> None:
        """This engine has more to do than it can start: others should look at the queue."""

    def runs_stopped(self, runs: Sequence[RunKey]) -> None:
        """These runs have failed: attempts of theirs, which any engine may run, should stop."""

    def database_unavailable(self, problem: str) -> None:
        """The database did not answer; the engine tries again."""

    def engine_lost(self) -> None:
        """The engine's lease ended while it lived; it goes on under a new number and drops what it ran."""

    def internal_failure(self, what: str, error: BaseException) -> None:
        """Something that must not happen did; work goes on, someone must look."""
