"""Counts the requests of every surface, and how long they took."""

from prometheus_client import Counter, Histogram

from runengine_server.adapters.telemetry.metrics import Metrics


class RequestMetrics:
    """RequestMeter; the surfaces give it names of methods and routes, never what a caller wrote."""

    def __init__(self, metrics: Metrics) -> None:
        """Count in `metrics`."""
        self._metrics = metrics
        self._rpc_counts: dict[tuple[str, str], Counter] = {}
        self._rpc_durations: dict[str, Histogram] = {}

    def rpc_answered(self, method: str, code: str, duration_s: float | None) -> None:
        """See the port."""
        count = self._rpc_counts.get((method, code))
        if count is None:
            count = self._rpc_counts[method, code] = self._metrics.grpc_requests.labels(method, code)
        count.inc()
        if duration_s is not None:
            duration = self._rpc_durations.get(method)
            if duration is None:
                duration = self._rpc_durations[method] = self._metrics.grpc_duration.labels(method)
            duration.observe(duration_s)

    def http_answered(self, route: str, verb: str, status: int, duration_s: float) -> None:
        """See the port."""
        self._metrics.http_requests.labels(route, verb, str(status)).inc()
        self._metrics.http_duration.labels(route).observe(duration_s)
