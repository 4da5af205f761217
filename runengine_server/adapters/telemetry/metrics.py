"""The metrics of this process: names, labels and buckets, as docs/metrics.md promises them (see also step_tallies)."""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.registry import Collector

from runengine_server.ports.queue_reader import Depth, QueueDepths, QueueState

_PREFIX: Final = "run_engine"
_FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW_S: Final = (0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0)
_COUNTS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)

disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began doubles what is scraped


class Metrics:
    """One registry and everything in it."""

    def __init__(self) -> None:
        """Start every counter at zero."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=_PREFIX, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _FAST_S) -> Histogram:
            return Histogram(name, text, labels, namespace=_PREFIX, registry=registry, buckets=buckets)

        self.runs_started = counter("runs_started_total", "Runs that began")
        self.runs_ended = counter("runs_ended_total", "Runs that ended", "status")
        self.run_duration = histogram(
            "run_duration_seconds", "From the creation of a run that completed to its end", buckets=_SLOW_S
        )
        self.attempts_failed = counter("attempts_failed_total", "Attempts that failed", "skill", "code")
        self.flights_joined = counter(
            "flights_joined_total", "Steps that began to wait for another run's identical one"
        )
        self.results_dropped = counter("results_dropped_total", "Results that came when their lease was gone")
        self.engine_leases_lost = counter("engine_leases_lost_total", "Times this engine lost its own lease and lived")
        self.runs_recovered = counter(
            "runs_recovered_total", "Runs that steps of dead or overdue attempts came back to"
        )
        self.database_failures = counter("database_failures_total", "Times the database did not answer the engine")
        self.internal_failures = counter("internal_failures_total", "Things that must not happen, and did")
        self.turn_duration = histogram("turn_duration_seconds", "Of a turn of the scheduler, in the database")
        self.turn_completions = histogram("turn_completions", "Completions that a turn committed", buckets=_COUNTS)
        self.turn_leases = histogram("turn_leases", "Steps that a turn leased", buckets=_COUNTS)
        self.grpc_requests = counter("grpc_requests_total", "gRPC calls that ended", "method", "code")
        self.grpc_duration = histogram("grpc_request_duration_seconds", "Of unary gRPC calls", "method")
        self.http_requests = counter(
            "http_requests_total", "HTTP requests that were answered", "route", "verb", "status"
        )
        self.http_duration = histogram(
            "http_request_duration_seconds", "Until the answer to an HTTP request began", "route"
        )
        self._queue = _QueueCollector()
        registry.register(self._queue)
        self._gauge("build_info", "1, with the version of this build", ("version",)).labels(version("runengine")).set(1)

    def sample(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read at each scrape."""
        self._gauge(name, text).set_function(read)

    def sample_by(self, name: str, text: str, label: str, read: Mapping[str, Callable[[], float]]) -> None:
        """A gauge for each value of a label, read at each scrape."""
        gauge = self._gauge(name, text, (label,))
        for value, function in read.items():
            gauge.labels(value).set_function(function)

    def render(self, accept: str, queue: QueueDepths | None, engines_alive: int | None) -> tuple[bytes, str]:
        """What a scrape gets, and its media type; without the queue's metrics while nobody can read it.

        Args:
            accept: the request's header, which may ask for OpenMetrics.
            queue: depth by state.
            engines_alive: engines that hold a lease.
        """
        self._queue.depths, self._queue.engines_alive = queue, engines_alive
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, text, labels, namespace=_PREFIX, registry=self.registry)


class _QueueCollector(Collector):
    """The queue as it was read for this scrape; absent rather than old."""

    def __init__(self) -> None:
        self.depths: QueueDepths | None = None
        self.engines_alive: int | None = None

    def describe(self) -> Iterator[Metric]:
        """The families, so that the registry need not collect to know them."""
        yield from self._families({}, None, None)

    def collect(self) -> Iterator[Metric]:
        """What is known."""
        if self.depths is not None:
            yield from self._families(self.depths.by_state, self.depths.stuck, self.engines_alive)

    def _families(
        self, by_state: Mapping[QueueState, Depth], stuck: Depth | None, engines_alive: int | None
    ) -> Iterator[Metric]:
        steps = GaugeMetricFamily(f"{_PREFIX}_queue_steps", "Steps in the queue", labels=["state"])
        age = GaugeMetricFamily(
            f"{_PREFIX}_queue_oldest_age_seconds", "Age of the oldest step in the queue", labels=["state"]
        )
        for state, depth in by_state.items():
            steps.add_metric([state.name.lower()], depth.steps)
            age.add_metric([state.name.lower()], depth.oldest_ms / 1000)
        yield steps
        yield age
        yield GaugeMetricFamily(
            f"{_PREFIX}_queue_stuck_steps", "Steps in the queue that are stuck", None if stuck is None else stuck.steps
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_queue_stuck_oldest_age_seconds",
            "Age of the oldest step that is stuck",
            None if stuck is None else stuck.oldest_ms / 1000,
        )
        yield GaugeMetricFamily(f"{_PREFIX}_engines_alive", "Engines that hold a lease", engines_alive)
