"""Part of the composition: what operators see of this process beside its log, and what it is measured by."""

from collections.abc import Mapping
from functools import partial

from starlette.types import ASGIApp

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.telemetry.metrics import Metrics
from runengine_server.adapters.telemetry.metrics_observer import MetricsObserver
from runengine_server.adapters.telemetry.request_metrics import RequestMetrics
from runengine_server.http.ops import ops_app
from runengine_server.rpc.readiness import Readiness
from runengine_server.rpc.server import RpcServer
from runengine_server.scheduler.scheduler import Scheduler
from runengine_server.service.queue_overview import QueueOverview, QueueOverviews


class Operations:
    """The metrics of a process, and the application that shows them.

    Attributes:
        metrics: everything that is counted.
        observer: counts what the engine tells.
        meter: counts requests.
    """

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.metrics = Metrics()
        self.observer = MetricsObserver(self.metrics)
        self.meter = RequestMetrics(self.metrics)

    def app(
        self,
        *,
        console_url: str,
        queue: QueueOverviews,
        readiness: Readiness,
        scheduler: Scheduler,
        attempts_max: int,
        rpc: RpcServer,
        databases: Mapping[str, Database],
    ) -> ASGIApp:
        """The application of the operations port, whose scrapes read these parts; call it once.

        Args:
            console_url: where the console is.
            queue: depth and age.
            readiness: whether the server should be sent requests.
            scheduler: whose attempts are counted.
            attempts_max: how many there may be.
            rpc: whose watches are counted.
            databases: pools of connections, by name.
        """
        metrics = self.metrics
        metrics.sample("ready", "1 while this server should be sent requests", lambda: not readiness.reasons())
        metrics.sample("attempts_in_flight", "Leases this engine holds", lambda: scheduler.attempts_in_flight)
        metrics.sample("attempts_capacity", "Attempts this engine runs at most", lambda: attempts_max)
        metrics.sample("watches_open", "Watches of every surface", lambda: rpc.watches.open_count)
        metrics.sample_by(
            "database_connections_open",
            "Connections to the database",
            "pool",
            {name: partial(getattr, database, "open_count") for name, database in databases.items()},
        )
        metrics.sample_by(
            "database_connections_busy",
            "Connections to the database that are in use",
            "pool",
            {name: partial(getattr, database, "busy_count") for name, database in databases.items()},
        )
        metrics.sample_by(
            "database_connections_waiting",
            "Who waits for a connection to the database",
            "pool",
            {name: partial(getattr, database, "waiting_count") for name, database in databases.items()},
        )

        def render(accept: str, overview: QueueOverview | None) -> tuple[bytes, str]:
            if overview is None:
                return metrics.render(accept, None, None)
            return metrics.render(accept, overview.total, overview.engines_alive)

        return ops_app(console_url=console_url, reasons=readiness.reasons, queue=queue, metrics=render)
