"""Deletes what is older than it is to be kept: runs, their events, and the audit log; one engine for all."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields, replace
from time import monotonic

import anyio
import asyncpg

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.housekeeping import begin, repeat
from runengine_server.adapters.postgres.queries import sql
from runengine_server.ports.observer import Observer

# One transaction looks at and deletes at most so many rows: each takes 10 to 50 ms.
RUNS_AT_ONCE = 500
ROWS_AT_ONCE = 5_000
GROUPS_AT_ONCE = 100

UNREFERENCED_S = 3 * 24 * 3600.0
"""So long nothing must have referred to an output of a deleted run. The hot cache holds a value for 2 days at most, and
what found it there may take another to commit."""

_TASK = "retention"

_log = logging.getLogger("runengine.retention")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """How long to keep what, in seconds; None is for ever.

    Attributes:
        runs_s: a run, since it ended.
        events_s: the events of a run, since it ended; they go with their run at the latest.
        audit_s: an entry of the audit log.
        interval_s: between two passes.
    """

    runs_s: float | None
    events_s: float | None
    audit_s: float | None
    interval_s: float = 600.0


@dataclass(slots=True, kw_only=True)
class Deleted:
    """What a pass deleted.

    Attributes:
        runs: nobody finds them any more.
        events: of these runs, and of others that ended long enough ago.
        outputs: of runs deleted earlier, to which nothing refers any more.
        artifacts: of those outputs; their content is for the clean-up of the artifact store.
        audit: entries of the audit log.
        is_cut: the pass took its time and ended before it was through; the next one goes on.
    """

    runs: int = 0
    events: int = 0
    outputs: int = 0
    artifacts: int = 0
    audit: int = 0
    is_cut: bool = False

    def __str__(self) -> str:
        """The counts, as log lines have them."""
        return ", ".join(f"{one.name}={getattr(self, one.name)}" for one in fields(self) if one.name != "is_cut")


class Retention:
    """Passes over the history at an interval; whichever engine comes first does each, in bounded transactions.

    Idempotent by: what is there. A pass cut short at any point is finished by the next one.
    """

    def __init__(self, database: Database, settings: RetentionSettings, observer: Observer) -> None:
        """Use connections of `database`, with pinned plans; tell `observer` when it does not answer."""
        self._database = database
        self._settings = settings
        self._observer = observer

    async def run(self) -> None:
        """Pass over the history until cancelled."""
        await repeat(_TASK, self._settings.interval_s, self.run_if_due, self._observer)

    async def run_if_due(self) -> Deleted | None:
        """Pass over the history unless an engine did within the interval; what was deleted, None if so."""
        if not await begin(self._database, _TASK, self._settings.interval_s):
            return None
        made = _Pass(self._database, self._settings)
        try:
            await made.make()
        finally:  # also what went before something failed
            if replace(made.deleted, is_cut=False) != Deleted():
                _log.info("[RunEngine] Retention: deleted %s", made.deleted)
        return made.deleted


@dataclass(slots=True)
class _Pass:
    """One pass: from transaction to transaction, with as long a rest after each as it took."""

    database: Database
    settings: RetentionSettings
    deleted: Deleted = field(default_factory=Deleted)
    ends_at: float = 0.0

    async def make(self) -> None:
        """Delete what is due, until nothing is or the next pass is near."""
        self.ends_at = monotonic() + self.settings.interval_s * 0.8
        if self.settings.events_s is not None:
            await self._walk(self._sweep_events, self.settings.events_s)
        if self.settings.runs_s is not None:
            await self._walk(self._sweep_runs, self.settings.runs_s)
            await self._repeat(self._delete_counts)
        await self._repeat(self._settle_deleted)
        if self.settings.audit_s is not None:
            await self._repeat(self._delete_audit)

    async def _walk(self, sweep: Callable[[int, float], Awaitable[asyncpg.Record]], age_s: float) -> None:
        """Sweep from the oldest run on."""
        place = 0

        async def further() -> bool:
            nonlocal place
            next_run = (await sweep(place, age_s))["next_run"]
            place = next_run or 0
            return next_run is not None

        await self._repeat(further)

    async def _repeat(self, delete_some: Callable[[], Awaitable[bool]]) -> None:
        """Call it as long as it says that there is more."""
        while not self.deleted.is_cut:
            began = monotonic()
            if not await delete_some():
                return
            await anyio.sleep(monotonic() - began)
            self.deleted.is_cut = monotonic() > self.ends_at

    async def _sweep_events(self, after: int, age_s: float) -> asyncpg.Record:
        row = await self._row("run_events_sweep", after, age_s, RUNS_AT_ONCE, ROWS_AT_ONCE)
        self.deleted.events += row["deleted"]
        return row

    async def _sweep_runs(self, after: int, age_s: float) -> asyncpg.Record:
        row = await self._row("runs_sweep", after, age_s, RUNS_AT_ONCE)
        self.deleted.runs += row["deleted"]
        return row

    async def _settle_deleted(self) -> bool:
        row = await self._row("deleted_runs_settle", ROWS_AT_ONCE, int(UNREFERENCED_S))
        self.deleted.events += row["events"]
        self.deleted.outputs += row["outputs"]
        self.deleted.artifacts += row["artifacts"]
        return bool(row["has_more"])

    async def _delete_counts(self) -> bool:
        row = await self._row("cache_counts_delete", GROUPS_AT_ONCE)
        return bool(row["count"] == GROUPS_AT_ONCE)

    async def _delete_audit(self) -> bool:
        row = await self._row("audit_log_delete", self.settings.audit_s, ROWS_AT_ONCE)
        self.deleted.audit += row["count"]
        return bool(row["count"] == ROWS_AT_ONCE)

    async def _row(self, query: str, *arguments: object) -> asyncpg.Record:
        row = await self.database.fetchrow(sql(query), *arguments)
        assert row is not None, f"{query} has one row"
        return row
