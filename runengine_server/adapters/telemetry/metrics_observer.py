"""Counts what the engine tells its observers; all that a step has to tell costs about a microsecond."""

from typing import Final

from runengine_server.adapters.telemetry.metrics import Metrics
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.adapters.telemetry.step_tallies import OTHER, StepTallies
from runengine_server.domain import failure as codes
from runengine_server.domain.cache import CacheKey
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId
from runengine_server.domain.states import CacheTier, OutputSource

KNOWN_CODES: Final = frozenset(
    {
        codes.SKILL_TIMEOUT,
        codes.SKILL_FAILED,
        codes.SKILL_UNAVAILABLE,
        codes.SKILL_PROTOCOL_ERROR,
        codes.HEARTBEAT_TIMEOUT,
        codes.OUTPUT_INVALID,
        codes.OUTPUT_TOO_LARGE,
        codes.INPUT_INVALID,
        codes.INPUT_SELECTOR_FAILED,
        codes.LEASE_LOST_REPEATEDLY,
        codes.INTERNAL,
    }
)
"""A skill may fail with codes of its own, as many as it likes: those are `other`."""


class MetricsObserver(ObserverGroup):
    """Observer that counts; silent about what has no metric. No id, key or tenant becomes a label."""

    def __init__(self, metrics: Metrics) -> None:
        """Count in `metrics`."""
        super().__init__([])
        self._metrics = metrics
        self._tallies = StepTallies()
        metrics.registry.register(self._tallies)
        self._ended = {status: metrics.runs_ended.labels(status) for status in ("completed", "failed", "cancelled")}

    def run_started(self, run_id: RunId, workflow_name: str) -> None:
        """See the port."""
        self._metrics.runs_started.inc()

    def run_completed(self, run_id: RunId, duration_ms: int) -> None:
        """See the port."""
        self._ended["completed"].inc()
        self._metrics.run_duration.observe(duration_ms / 1000)

    def run_failed(self, run_id: RunId, failed_step: str, code: str) -> None:
        """See the port."""
        self._ended["failed"].inc()

    def run_cancelled(self, run_id: RunId) -> None:
        """See the port."""
        self._ended["cancelled"].inc()

    def step_completed(self, run_id: RunId, step_id: str, skill_id: str, duration_ms: int) -> None:
        """See the port."""
        tally = self._tallies.of(skill_id)
        tally.has_output(OutputSource.EXECUTED)
        tally.took(duration_ms)

    def step_skipped(self, run_id: RunId, step_id: str, skill_id: str, source: OutputSource) -> None:
        """See the port."""
        self._tallies.of(skill_id).has_output(source)

    def step_failed(self, run_id: RunId, step_id: str, skill_id: str, failure: Failure, attempt: int) -> None:
        """See the port."""
        code = failure.code if failure.code in KNOWN_CODES else OTHER
        self._metrics.attempts_failed.labels(self._tallies.of(skill_id).name, code).inc()

    def cache_hit(self, key: CacheKey, tier: CacheTier) -> None:
        """See the port."""
        self._tallies.hit(tier)

    def cache_miss(self, key: CacheKey) -> None:
        """See the port."""
        self._tallies.missed()

    def results_dropped(self, count: int) -> None:
        """See the port."""
        self._metrics.results_dropped.inc(count)

    def database_unavailable(self, problem: str) -> None:
        """See the port."""
        self._metrics.database_failures.inc()

    def engine_lost(self) -> None:
        """See the port."""
        self._metrics.engine_leases_lost.inc()

    def internal_failure(self, what: str, error: BaseException) -> None:
        """See the port."""
        self._metrics.internal_failures.inc()
