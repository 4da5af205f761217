"""Keeps the cold tier within its age and size, forgets old removals and adds up statistics; one engine for all."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from runengine_server.adapters.postgres.cache_admin import settle_counts
from runengine_server.adapters.postgres.cache_sweep import START, WINDOW, Match, Place, sweep
from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.housekeeping import begin, repeat
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.states import MissReason
from runengine_server.ports.observer import Observer

# So long a later lookup is told INVALIDATED or EVICTED; then it is as if the entry had never been.
REMOVALS_KEPT_S = 30 * 24 * 3600.0

_TASK = "cache clean-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupSettings:
    """What the cold tier may hold; None is no bound.

    Attributes:
        age_s_max: of an entry since it was filed, in seconds.
        bytes_max: stored outputs of all entries of all tenants; the oldest go first.
        interval_s: between two passes over the cache, in seconds.
    """

    age_s_max: float | None = None
    bytes_max: int | None = None
    interval_s: float = 600.0


class CacheCleanup:
    """Passes over the cold tier at an interval; whichever engine comes first does each, in bounded transactions.

    Only entries go; outputs stay, for runs refer to them. A pass cut short is finished by the next one.
    """

    def __init__(self, database: Database, settings: CleanupSettings, observer: Observer) -> None:
        """Use connections of `database`; tell `observer` when it does not answer."""
        self._database = database
        self._settings = settings
        self._observer = observer

    async def run(self) -> None:
        """Pass over the cache until cancelled."""
        await repeat(_TASK, self._settings.interval_s, self.run_if_due, self._observer)

    async def run_if_due(self) -> int | None:
        """Pass over the cache unless an engine did within the interval; how many entries were evicted, None if so."""
        if not await begin(self._database, _TASK, self._settings.interval_s):
            return None
        await settle_counts(self._database)
        while await self._database.fetch(sql("step_cache_delete"), REMOVALS_KEPT_S, WINDOW):
            pass
        limits = []
        if self._settings.age_s_max is not None:
            limits.append(await self._now() - timedelta(seconds=self._settings.age_s_max))
        if self._settings.bytes_max is not None:
            limits.append(await self._oldest_that_fits(self._settings.bytes_max))
        return await self._evict(max(limits)) if limits else 0

    async def _now(self) -> datetime:
        now: datetime = await self._database.fetchval(sql("clock_read"))
        return now

    async def _oldest_that_fits(self, bytes_max: int) -> datetime:
        """The moment since when entries were filed that fit together, to the minute."""
        minutes: Counter[datetime] = Counter()
        place: Place | None = START
        while place is not None:
            row = await self._database.fetchrow(sql("step_cache_count"), *place, WINDOW)
            assert row is not None, "the statement always has one row"
            minutes.update(dict(zip(row["minutes"], row["bytes"], strict=True)))
            following = (row["next_tenant"], row["next_workflow"], row["next_step"], row["next_hash"])
            place = following if following[0] is not None else None
        return _fitting_since(minutes, bytes_max)

    async def _evict(self, before: datetime) -> int:
        count = 0
        place: Place | None = START
        while place is not None:
            async with self._database.connection() as connection:
                swept = await sweep(connection, place, Match(created_before=before), MissReason.EVICTED)
            count += swept.matched
            place = swept.next
        return count


def _fitting_since(minutes: Counter[datetime], bytes_max: int) -> datetime:
    """The first minute from which on what was filed takes at most so many bytes; what fits as a whole stays."""
    total = 0
    since = datetime.min.replace(tzinfo=UTC)
    for minute in sorted(minutes, reverse=True):
        total += minutes[minute]
        if total > bytes_max:
            return minute + timedelta(minutes=1)
    return since
