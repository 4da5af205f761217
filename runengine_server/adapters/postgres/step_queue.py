"""The queue on PostgreSQL: completions become columns, one statement does the rest."""

from collections.abc import Sequence
from time import monotonic

import asyncpg

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.encoding import decode_failure
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.postgres.tick_arguments import tick_arguments
from runengine_server.domain.cache import CacheMiss, FlightId
from runengine_server.domain.ids import EngineNo, Place, RunKey
from runengine_server.domain.states import MissReason, RunStatus
from runengine_server.ports.step_queue import (
    CacheQuestion,
    Completion,
    EndedRun,
    Followed,
    Following,
    Holdings,
    Lease,
    Recorded,
    TakenBack,
    Turn,
)

LEASE_LOSSES_MAX = 5
# A lease this far beyond its attempt's timeout was lost sight of; looking for such leases reads all that are held.
OVERDUE_GRACE_MS = 10_000
OVERDUE_EVERY_S = 5.0
# What reads a whole table of short-lived rows takes long while an old snapshot keeps the dead ones: then it is rare.
# Up to this long, in seconds, it may take each time.
_UNPACED_S = 0.05
_PART_OF_TIME = 20
_BATCH = 1000


class PostgresStepQueue:
    """StepQueue: one round trip and one transaction a tick, on connections with pinned plans."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`, opened with PINNED_PLANS."""
        self._database = database
        self._tick = sql("step_queue_tick")

    async def tick(
        self,
        engine: EngineNo,
        completions: Sequence[Completion],
        capacity: int,
        questions: Sequence[CacheQuestion] = (),
        known: Sequence[Place] | None = None,
    ) -> Turn:
        """See the port."""
        order = sorted(range(len(completions)), key=lambda at: completions[at].lease.run)
        arguments = tick_arguments([completions[at] for at in order], questions)
        places = (None, None) if known is None else ([run for run, _ in known], [step for _, step in known])
        row = await self._database.fetchrow(self._tick, engine, capacity, *arguments, *places)
        assert row is not None
        accepted = dict(zip(order, row["is_accepted"] or (), strict=True))
        leases = _leases(row)
        return Turn(
            accepted=[accepted[at] for at in range(len(completions))],
            leases=leases,
            misses=_misses(row) if row["l_miss"] else [None] * len(leases),
            begun=row["begun"],
            ended=_ended(row),
            next_available_s=None if row["next_available_ms"] is None else row["next_available_ms"] / 1000,
            look_s=None if row["look_us"] is None else row["look_us"] / 1_000_000,
        )

    async def follow(self, engine: EngineNo, waits: Sequence[tuple[Lease, FlightId]]) -> Followed:
        """See the port."""
        row = await self._database.fetchrow(
            sql("step_queue_follow"), engine, *_columns([lease for lease, _ in waits]), [flight for _, flight in waits]
        )
        assert row is not None
        return Followed(outcomes=[Following(outcome) for outcome in row["outcomes"]], ended=_ended(row))

    async def hold(self, engine: EngineNo, lease: Lease) -> None:
        """See the port."""
        await self._database.fetch(sql("step_queue_hold"), lease.run, lease.step, engine, lease.epoch)

    async def begin(self, engine: EngineNo, lease: Lease, timeout_ms: int) -> bool:
        """See the port."""
        begun = await self._database.fetchval(
            sql("step_queue_begin"), lease.run, lease.step, engine, lease.epoch, timeout_ms
        )
        return begun is not None

    async def owned(self, engine: EngineNo) -> Holdings:
        """See the port."""
        rows = await self._database.fetch(sql("step_queue_owned"), engine)
        return Holdings(
            leases=[Lease(*row[:-1]) for row in rows], failing={row["run"] for row in rows if row["is_failing"]}
        )

    async def hand_back(self, leases: Sequence[Lease]) -> TakenBack:
        """See the port."""
        row = await self._database.fetchrow(sql("leases_return"), *_columns(leases), LEASE_LOSSES_MAX)
        assert row is not None
        return TakenBack(runs=row["concerned"], ended=_ended(row))

    async def recorded(self, engine: EngineNo, leases: Sequence[Lease]) -> Recorded:
        """See the port."""
        row = await self._database.fetchrow(sql("completions_find"), engine, *_columns(leases))
        assert row is not None
        return Recorded(is_recorded=row["is_recorded"] or (), ended=_ended(row))


class PostgresEngineRegistry:
    """EngineRegistry: one row an engine, renewed on the database's clock, over a connection of its own."""

    def __init__(self, heartbeats: Database, housekeeping: Database | None = None) -> None:
        """Use connections of `heartbeats`, which no other work can occupy, to register and renew.

        Args:
            heartbeats: for registering and renewing.
            housekeeping: for everything that may wait for locks; by default the same.
        """
        self._heartbeats = heartbeats
        self._database = housekeeping or heartbeats
        self._flights_at_s = self._overdue_at_s = 0.0

    async def register(self, engine_id: str, description: str, lease_s: float) -> EngineNo:
        """See the port."""
        return EngineNo(await self._heartbeats.fetchval(sql("engine_register"), engine_id, description, lease_s))

    async def renew(self, engine: EngineNo, lease_s: float) -> bool:
        """See the port."""
        return await self._heartbeats.fetchval(sql("engine_renew"), engine, lease_s) is not None

    async def retire(self, engine: EngineNo) -> TakenBack:
        """See the port."""
        taken = await self._take_back_all("leases_release", engine, LEASE_LOSSES_MAX, _BATCH)
        await self._database.fetch(sql("engine_delete"), engine)
        return taken

    async def reap(self) -> TakenBack:
        """See the port."""
        if (began_s := monotonic()) >= self._flights_at_s:
            await self._database.fetchval(sql("flights_reap"), _BATCH)
            self._flights_at_s = _next(began_s, 0.0)
        dead = await self._take_back_all("engines_reap", LEASE_LOSSES_MAX, _BATCH)
        if (began_s := monotonic()) < self._overdue_at_s:
            return dead
        overdue = await self._take_back("leases_reap", LEASE_LOSSES_MAX, OVERDUE_GRACE_MS, _BATCH)
        self._overdue_at_s = _next(began_s, OVERDUE_EVERY_S)
        return TakenBack(runs=[*dead.runs, *overdue.runs], ended=[*dead.ended, *overdue.ended])

    async def enforce_deadlines(self) -> Sequence[EndedRun]:
        """See the port."""
        row = await self._database.fetchrow(sql("deadlines_enforce"), _BATCH)
        assert row is not None
        return _ended(row)

    async def next_deadline_s(self) -> float | None:
        """See the port."""
        in_s: float | None = await self._database.fetchval(sql("deadline_find"))
        return in_s

    async def ensure_partitions(self) -> None:
        """Make the partitions that the next runs will need."""
        await self._database.fetchval(sql("partitions_ensure"))

    async def _take_back_all(self, query: str, *arguments: object) -> TakenBack:
        """Repeat the query until it finds nothing more."""
        runs: list[RunKey] = []
        ended: list[EndedRun] = []
        while (taken := await self._take_back(query, *arguments)).runs:
            runs += taken.runs
            ended += taken.ended
        return TakenBack(runs=runs, ended=ended)

    async def _take_back(self, query: str, *arguments: object) -> TakenBack:
        row = await self._database.fetchrow(sql(query), *arguments)
        assert row is not None
        return TakenBack(runs=row["concerned"], ended=_ended(row))


def _next(began_s: float, every_s: float) -> float:
    """When to do again what began then and has just ended."""
    now_s = monotonic()
    took_s = now_s - began_s
    return now_s + (every_s if took_s < _UNPACED_S else max(every_s, _PART_OF_TIME * took_s))


def _columns(leases: Sequence[Lease]) -> tuple[list[int], list[int], list[int]]:
    return [lease.run for lease in leases], [lease.step for lease in leases], [lease.epoch for lease in leases]


def _leases(row: asyncpg.Record) -> list[Lease]:
    return [
        Lease(*lease)
        for lease in zip(
            row["l_run"],
            row["l_step"],
            row["l_epoch"],
            row["l_attempt"],
            row["l_losses"],
            row["l_is_follower"],
            strict=True,
        )
    ]


def _misses(row: asyncpg.Record) -> list[CacheMiss | None]:
    return [
        None if reason is None else CacheMiss(reason=MissReason(reason), generation=generation)
        for reason, generation in zip(row["l_miss"], row["l_generation"], strict=True)
    ]


def _ended(row: asyncpg.Record) -> list[EndedRun]:
    if row["e_run"] is None:
        return []
    return [
        EndedRun(
            run=run,
            status=RunStatus(status),
            duration_ms=duration_ms,
            failed_step=failed_step,
            failure=decode_failure(error) if error else None,
        )
        for run, status, duration_ms, failed_step, error in zip(
            row["e_run"], row["e_status"], row["e_duration_ms"], row["e_failed_step"], row["e_error"], strict=True
        )
    ]
