"""What is counted, and that nothing a caller can choose makes the metrics grow without bound."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runengine_server.adapters.telemetry.metered_queue import MeteredEngineRegistry, MeteredStepQueue
from runengine_server.adapters.telemetry.metrics import Metrics
from runengine_server.adapters.telemetry.metrics_observer import MetricsObserver
from runengine_server.adapters.telemetry.request_metrics import RequestMetrics
from runengine_server.adapters.telemetry.step_tallies import SKILLS_MAX
from runengine_server.domain.cache import CacheKey
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import EngineNo, RunId, RunKey, StepId, StepNo, Tenant
from runengine_server.domain.states import CacheTier, OutputSource
from runengine_server.ports.queue_reader import Depth, QueueDepths, QueueState
from runengine_server.ports.step_queue import Followed, Following, Lease, TakenBack, Turn

RUN = RunId("550e8400-e29b-41d4-a716-446655440000")
KEY = CacheKey(tenant=Tenant("acme"), workflow_name="w", step_id=StepId("s"), input_hash="a3f2c1" + "0" * 58)
LEASE = Lease(run=RunKey(1), step=StepNo(0), epoch=1, attempt=1, lease_losses=0)


def scraped(metrics: Metrics, queue: QueueDepths | None = None) -> dict[tuple[str, ...], float]:
    """The values by name and label values."""
    text, _ = metrics.render("", queue, 1 if queue else None)
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_hit_rate() -> None:
    """The hit rate is the share of look-ups that either tier answered; none before the first."""
    metrics = Metrics()
    observer = MetricsObserver(metrics)
    assert scraped(metrics)["run_engine_cache_hit_rate",] == 0
    observer.cache_hit(KEY, CacheTier.HOT)
    observer.cache_hit(KEY, CacheTier.HOT)
    observer.cache_hit(KEY, CacheTier.COLD)
    observer.cache_miss(KEY)
    values = scraped(metrics)
    assert values["run_engine_cache_hit_rate",] == 0.75
    assert values["run_engine_cache_hits_total", "hot"] == 2
    assert values["run_engine_cache_hits_total", "cold"] == values["run_engine_cache_misses_total",] == 1


def test_labels_are_bounded() -> None:
    """Skills beyond the bound and codes that a skill makes up are counted as `other`."""
    metrics = Metrics()
    observer = MetricsObserver(metrics)
    for number in range(SKILLS_MAX + 5):
        observer.step_completed(RUN, "s", f"skill.n{number}", 1)
        observer.step_skipped(RUN, "s", f"skill.n{number}", OutputSource.JOINED)
        observer.step_failed(RUN, "s", f"skill.n{number}", Failure(code=f"MADE_UP_{number}", message=""), 1)
    observer.step_failed(RUN, "s", "skill.n0", Failure(code="SKILL_TIMEOUT", message=""), 1)
    values = scraped(metrics)
    assert values["run_engine_steps_total", "other", "executed"] == 5
    assert values["run_engine_steps_total", "other", "joined"] == 5
    assert values["run_engine_step_duration_seconds_count", "other"] == 5
    assert values["run_engine_attempts_failed_total", "other", "other"] == 5
    assert values["run_engine_attempts_failed_total", "SKILL_TIMEOUT", "skill.n0"] == 1
    assert len({key[1] for key in values if key[0] == "run_engine_steps_total"}) == SKILLS_MAX + 1
    assert "MADE_UP" not in str(values)


def test_durations() -> None:
    """Each duration counts up to every bound that it does not exceed, and in the sum."""
    metrics = Metrics()
    observer = MetricsObserver(metrics)
    for duration_ms in (10, 11, 400, 7_200_000):
        observer.step_completed(RUN, "s", "a.skill", duration_ms)
    values = scraped(metrics)
    bucket = "run_engine_step_duration_seconds_bucket"
    assert [values[bucket, bound, "a.skill"] for bound in ("0.01", "0.1", "0.5", "1800.0", "+Inf")] == [1, 2, 3, 3, 4]
    assert values["run_engine_step_duration_seconds_sum", "a.skill"] == 7200.421
    assert values["run_engine_step_duration_seconds_count", "a.skill"] == 4


def test_runs_and_troubles() -> None:
    """Ends of runs, dropped results and what goes wrong in the engine are counted."""
    metrics = Metrics()
    observer = MetricsObserver(metrics)
    observer.run_started(RUN, "w")
    observer.run_completed(RUN, 2500)
    observer.run_failed(RUN, "s", "X")
    observer.run_cancelled(RUN)
    observer.results_dropped(3)
    observer.engine_lost()
    observer.database_unavailable("gone")
    observer.internal_failure("what", ValueError())
    values = scraped(metrics)
    assert [values["run_engine_runs_ended_total", status] for status in ("completed", "failed", "cancelled")] == [1] * 3
    assert values["run_engine_runs_started_total",] == 1
    assert values["run_engine_run_duration_seconds_sum",] == 2.5
    assert values["run_engine_results_dropped_total",] == 3
    assert values["run_engine_engine_leases_lost_total",] == values["run_engine_database_failures_total",] == 1
    assert values["run_engine_internal_failures_total",] == 1


def test_queue_is_absent_rather_than_old() -> None:
    """The queue's metrics are those that a scrape was given; without any there are none."""
    metrics = Metrics()
    depths = QueueDepths(
        by_state=dict.fromkeys(QueueState, Depth()) | {QueueState.READY: Depth(4, 1500)}, stuck=Depth(1, 900)
    )
    values = scraped(metrics, depths)
    assert values["run_engine_queue_steps", "ready"] == 4
    assert values["run_engine_queue_oldest_age_seconds", "ready"] == 1.5
    assert values["run_engine_queue_steps", "held"] == 0
    assert values["run_engine_queue_stuck_steps",] == values["run_engine_engines_alive",] == 1
    assert values["run_engine_queue_stuck_oldest_age_seconds",] == 0.9
    assert not [key for key in scraped(metrics) if "queue" in key[0] or "alive" in key[0]]


def test_open_metrics() -> None:
    """Who accepts OpenMetrics gets it."""
    content, media_type = Metrics().render("application/openmetrics-text; version=1.0.0", None, None)
    assert media_type.startswith("application/openmetrics-text") and content.endswith(b"# EOF\n")


def test_requests() -> None:
    """Calls and requests are counted under what the surfaces name them; streams have no duration."""
    metrics = Metrics()
    meter = RequestMetrics(metrics)
    meter.rpc_answered("/s/M", "OK", 0.25)
    meter.rpc_answered("/s/W", "CANCELLED", None)
    meter.http_answered("/runs/{runId}", "GET", 200, 0.5)
    values = scraped(metrics)
    assert values["run_engine_grpc_requests_total", "OK", "/s/M"] == 1
    assert values["run_engine_grpc_request_duration_seconds_sum", "/s/M"] == 0.25
    assert values["run_engine_grpc_requests_total", "CANCELLED", "/s/W"] == 1
    assert ("run_engine_grpc_request_duration_seconds_sum", "/s/W") not in values
    assert values["run_engine_http_requests_total", "/runs/{runId}", "200", "GET"] == 1
    assert values["run_engine_http_request_duration_seconds_sum", "/runs/{runId}"] == 0.5


@pytest.mark.anyio
async def test_turns_and_recovery() -> None:
    """Turns are measured, followers counted, and runs that reaping found; all else is passed on."""
    metrics = Metrics()

    class Queue:
        async def tick(self, *_: object) -> Turn:
            return Turn(accepted=[True, False], leases=[LEASE], misses=[], begun=[], ended=[], next_available_s=None)

        async def follow(self, *_: object) -> Followed:
            return Followed(outcomes=[Following.WAITING, Following.FLIGHT_ENDED, Following.WAITING], ended=[])

        async def begin(self, *arguments: object) -> bool:
            return arguments == (EngineNo(1), LEASE, 5)

    class Registry:
        async def reap(self) -> TakenBack:
            return TakenBack(runs=[RunKey(1), RunKey(2)], ended=[])

    queue = MeteredStepQueue(Queue(), metrics)  # type: ignore[arg-type]
    await queue.tick(EngineNo(1), [], 5)
    await queue.follow(EngineNo(1), [])
    assert await queue.begin(EngineNo(1), LEASE, 5)
    await MeteredEngineRegistry(Registry(), metrics).reap()  # type: ignore[arg-type]
    values = scraped(metrics)
    assert values["run_engine_turn_duration_seconds_count",] == 1
    assert values["run_engine_turn_leases_sum",] == 1
    assert values["run_engine_flights_joined_total",] == 2
    assert values["run_engine_runs_recovered_total",] == 2
