"""Counts what the engine tells its observers; a step costs about two microseconds."""

from typing import Final

from prometheus_client import Counter, Histogram

from runengine_server.adapters.telemetry.metrics import OTHER, Labels, Metrics
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.domain import failure as codes
from runengine_server.domain.cache import CacheKey
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId
from runengine_server.domain.states import CacheTier, OutputSource

SKILLS_MAX: Final = 200

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
        self._skills = Labels(SKILLS_MAX)
        # Looking a series up by its labels costs more than counting in it.
        self._steps: dict[tuple[str, OutputSource], Counter] = {}
        self._durations: dict[str, Histogram] = {}
        self._hits = {tier: metrics.cache_hits.labels(tier.name.lower()) for tier in CacheTier}
        self._ended = {status: metrics.runs_ended.labels(status) for status in ("completed", "failed", "cancelled")}
        self._hit_count = 0
        self._lookup_count = 0
        metrics.sample("cache_hit_rate", "Hits of either tier per look-up of this process, 0 to 1", self.hit_rate)

    def hit_rate(self) -> float:
        """Hits of either tier per look-up since the process began; 0 before the first."""
        return self._hit_count / self._lookup_count if self._lookup_count else 0.0

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
        skill = self._skills.bounded(skill_id)
        self._step(skill, OutputSource.EXECUTED)
        series = self._durations.get(skill)
        if series is None:
            series = self._durations[skill] = self._metrics.step_duration.labels(skill)
        series.observe(duration_ms / 1000)

    def step_skipped(self, run_id: RunId, step_id: str, skill_id: str, source: OutputSource) -> None:
        """See the port."""
        self._step(self._skills.bounded(skill_id), source)

    def step_failed(self, run_id: RunId, step_id: str, skill_id: str, failure: Failure, attempt: int) -> None:
        """See the port."""
        code = failure.code if failure.code in KNOWN_CODES else OTHER
        self._metrics.attempts_failed.labels(self._skills.bounded(skill_id), code).inc()

    def cache_hit(self, key: CacheKey, tier: CacheTier) -> None:
        """See the port."""
        self._hit_count += 1
        self._lookup_count += 1
        self._hits[tier].inc()

    def cache_miss(self, key: CacheKey) -> None:
        """See the port."""
        self._lookup_count += 1
        self._metrics.cache_misses.inc()

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

    def _step(self, skill: str, source: OutputSource) -> None:
        series = self._steps.get((skill, source))
        if series is None:
            series = self._steps[skill, source] = self._metrics.steps.labels(skill, source.name.lower())
        series.inc()
