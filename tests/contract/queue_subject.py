"""What the queue's contract suite drives: both implementations behind one handle, and hands to make runs with."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from uuid import uuid4

import anyio

from runengine_server.adapters.memory.cold_cache import MemoryColdCache
from runengine_server.adapters.memory.run_store import MemoryRunStore
from runengine_server.adapters.memory.step_queue import MemoryEngineRegistry, MemoryStepQueue
from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.database import PINNED_PLANS, Database, open_database
from runengine_server.adapters.postgres.encoding import decode_decision
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import (
    CacheAnswer,
    CacheDecision,
    Claimant,
    FlightId,
)
from runengine_server.domain.canonical_json import canonical_bytes, content_hash
from runengine_server.domain.ids import EngineNo, RunId, RunKey, StepNo, Tenant
from runengine_server.domain.plan import ReuseBinding
from runengine_server.domain.states import (
    FailurePolicy,
    OutputSource,
)
from runengine_server.ports.output_cache import OutputCache
from runengine_server.ports.run_store import CreatedRun, EarlierAnswer, NewRun, Outdated, RunStore
from runengine_server.ports.step_queue import (
    CacheFiling,
    CacheQuestion,
    Completion,
    Dependents,
    EngineRegistry,
    Following,
    Lease,
    StepExecuted,
    StepQueue,
    StepReused,
    Turn,
)

from .queue_values import MISS, TENANT, TIMEOUT_MS, Needs, input_hash, new_run, query

Event = tuple[int, int, int | None, int | None, int | None, int | None, int | None, tuple[int, ...]]
"""Sequence, type, step, attempt, ordinal, from, to, counters after it."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


@dataclass(slots=True)
class Taking:
    """An intake that asks about steps and keeps what it is told."""

    engine: EngineNo
    steps: Sequence[int]
    told: list[CreatedRun] = field(default_factory=list)

    @property
    def questions(self) -> Sequence[CacheQuestion]:
        return [question((RunKey(0), StepNo(step))) for step in self.steps]

    def created(self, created: CreatedRun) -> None:
        self.told.append(created)


@dataclass(slots=True, kw_only=True)
class Subject:
    """One implementation of store, queue, registry and cold cache over the same runs, with one engine registered."""

    store: RunStore
    queue: StepQueue
    registry: EngineRegistry
    cache: OutputCache
    tables: MemoryTables | None = None
    database: Database | None = None
    engine: EngineNo = EngineNo(0)  # noqa: RUF009 - a NewType's call makes an int
    needs: dict[RunKey, Needs] = field(default_factory=dict)
    ids: dict[RunKey, RunId] = field(default_factory=dict)

    async def create(
        self,
        needs: Needs,
        *,
        priority: int = 0,
        policy: FailurePolicy = FailurePolicy.FINISH_RUNNING,
        deadline_s: float | None = None,
        reused: Mapping[int, ReuseBinding] | None = None,
        base: RunKey | None = None,
        tenant: Tenant = TENANT,
        intake: Taking | None = None,
    ) -> RunKey:
        """A run in which step n waits for `needs[n]`; one with a base is of the same version."""
        new = new_run(
            needs, priority=priority, policy=policy, deadline_s=deadline_s, reused=reused, base=base, tenant=tenant
        )
        created = await self.store.create(new, intake)
        assert isinstance(created, CreatedRun)
        self.needs[created.run], self.ids[created.run] = needs, new.id
        return created.run

    async def submit(self, new: NewRun) -> CreatedRun | EarlierAnswer | Outdated:
        return await self.store.create(new)

    async def tick(
        self,
        *completions: Completion,
        capacity: int = 100,
        engine: EngineNo | None = None,
        asking: Sequence[Claimant] = (),
        known: Sequence[Claimant] | None = None,
    ) -> Turn:
        """A turn that asks the cache in advance for the steps `asking`, and looks for no others than the `known`."""
        questions = [question(place) for place in sorted(asking)]
        return await self.queue.tick(self.engine if engine is None else engine, completions, capacity, questions, known)

    async def look_up(self, lease: Lease) -> CacheAnswer:
        """What the cache has for the leased step, which leads its flight where it has nothing and nobody leads."""
        (answer,) = await self.cache.lookup([query((lease.run, lease.step))])
        return answer

    async def follow(self, *leases: Lease, engine: EngineNo | None = None) -> Sequence[Following]:
        """Give leases up for the flights of their steps."""
        waits = [(lease, query((lease.run, lease.step)).flight) for lease in leases]
        return (await self.queue.follow(self.engine if engine is None else engine, waits)).outcomes

    async def flights(self) -> dict[FlightId, tuple[Claimant, list[Claimant]]]:
        """Who leads each flight, and who waits for it, the oldest first."""
        if self.tables is not None:
            queue, leaders = self.tables.queue, self.tables.flights.leaders
            waiting = [(q.waiting_on, (q.ready_at, place)) for place, q in queue.items() if q.waiting_on]
        else:
            assert self.database is not None
            rows = await self.database.fetch("SELECT flight, run, step FROM cache_flights")
            leaders = {FlightId(row["flight"]): (RunKey(row["run"]), StepNo(row["step"])) for row in rows}
            rows = await self.database.fetch(
                "SELECT waiting_on, extract(epoch FROM ready_at)::float8 AS ready_at, run, step"
                " FROM step_queue WHERE waiting_on IS NOT NULL"
            )
            waiting = [(r["waiting_on"], (r["ready_at"], (RunKey(r["run"]), StepNo(r["step"])))) for r in rows]
        assert {flight for flight, _ in waiting} <= set(leaders), "a step waits for no flight"
        return {
            flight: (leader, [place for _, place in sorted(age for waits_for, age in waiting if waits_for == flight)])
            for flight, leader in leaders.items()
        }

    async def cancel(self, run: RunKey) -> bool | None:
        return await self.store.cancel(TENANT, self.ids[run], "ann", "enough")

    def executed(
        self,
        lease: Lease,
        *artifacts: ProducedArtifact,
        output: str = "",
        filing: CacheFiling | None = None,
        is_flying: bool = False,
    ) -> StepExecuted:
        """The lease's skill succeeded."""
        body = canonical_bytes({"of": output or f"{lease.run}.{lease.step}"})
        return StepExecuted(
            lease=lease,
            input_hash=input_hash(lease),
            cache_version="1",
            skill_id="no.op",
            skill_version="1",
            output=body,
            output_hash=content_hash(body),
            artifacts=artifacts,
            decision=MISS,
            dependents=self.dependents(lease),
            filing=filing,
            flight=query((lease.run, lease.step)).flight if is_flying else None,
        )

    def reused(self, lease: Lease, producer: tuple[RunKey, StepNo], *, is_flying: bool = False) -> StepReused:
        """The lease's step uses what another run's step produced."""
        return StepReused(
            lease=lease,
            source=OutputSource.CACHE_COLD,
            producer_run=producer[0],
            producer_step=producer[1],
            input_hash=input_hash(lease),
            cache_version="1",
            output_hash="ab" * 32,
            decision=None,
            dependents=self.dependents(lease),
            flight=query((lease.run, lease.step)).flight if is_flying else None,
        )

    def dependents(self, lease: Lease) -> Dependents:
        steps = tuple(StepNo(n) for n, needs in self.needs[lease.run].items() if lease.step in needs)
        return Dependents(steps, (TIMEOUT_MS,) * len(steps))

    async def dead_engine(self, capacity: int = 100) -> tuple[EngineNo, list[Lease]]:
        """An engine that leased steps and then let its own lease end."""
        dead = await self.registry.register(str(uuid4()), "dead", 3600.0)
        leases = list((await self.tick(engine=dead, capacity=capacity)).leases)
        assert await self.registry.renew(dead, -1.0)
        return dead, leases

    async def forget_engine(self, engine: EngineNo) -> None:
        """The engine's row is gone, its leases are not."""
        if self.tables is not None:
            del self.tables.engines[engine]
        else:
            assert self.database is not None
            await self.database.fetch("DELETE FROM engines WHERE engine = $1", engine)

    async def age(self, lease: Lease, seconds: float) -> None:
        """The lease was granted that much earlier."""
        if self.tables is not None:
            queued = self.tables.queue[lease.run, lease.step]
            assert queued.leased_at is not None
            queued.leased_at -= seconds
        else:
            assert self.database is not None
            await self.database.fetch(
                "UPDATE step_queue SET leased_at = leased_at - $3 * interval '1 second' WHERE run = $1 AND step = $2",
                lease.run,
                lease.step,
                seconds,
            )

    async def age_flights(self) -> None:
        """Flights are no longer so young that their leader may just not be seen yet."""
        if self.database is not None:
            await self.database.fetch("UPDATE cache_flights SET started_at = started_at - interval '2 seconds'")

    async def forget_flights(self) -> None:
        """Flights are gone, those who wait for them are not."""
        if self.tables is not None:
            self.tables.flights.leaders.clear()
        else:
            assert self.database is not None
            await self.database.fetch("DELETE FROM cache_flights")

    async def history(self, run: RunKey) -> list[Event]:
        """The run's events."""
        if self.tables is not None:
            return [
                (
                    e.sequence,
                    int(e.type),
                    e.step,
                    e.attempt,
                    e.ordinal,
                    _int(e.from_status),
                    _int(e.to_status),
                    e.counts,
                )
                for e in self.tables.history(run)
            ]
        assert self.database is not None
        rows = await self.database.fetch(
            "SELECT sequence, type, step, attempt, ordinal, from_status, to_status,"
            " ARRAY[running, completed, skipped, failed, cancelled] AS counts"
            " FROM run_events WHERE run = $1 ORDER BY sequence",
            run,
        )
        return [(*row[:7], tuple(row["counts"])) for row in rows]

    async def moves(self, run: RunKey) -> list[tuple[int | None, int | None, int | None]]:
        """Step, from and to of each event, artifacts left out."""
        return [(e[2], e[5], e[6]) for e in await self.history(run) if e[1] != 4]

    async def decisions(self, run: RunKey) -> dict[int, tuple[CacheDecision | None, str]]:
        """What the cache said for each finished step, and the hash of the input it was asked for."""
        if self.tables is not None:
            results = self.tables.results
            return {place[1]: (r.decision, r.input_hash) for place, r in results.items() if place[0] == run}
        assert self.database is not None
        rows = await self.database.fetch("SELECT step, decision, input_hash FROM step_results WHERE run = $1", run)
        return {
            row["step"]: (
                None if row["decision"] is None else decode_decision(row["decision"], ""),
                "" if row["input_hash"] is None else row["input_hash"].hex(),
            )
            for row in rows
        }


def question(place: Claimant) -> CacheQuestion:
    """What the step asks the cache in advance."""
    asked = query(place)
    return CacheQuestion(asked, asked.flight, is_step_known=False)


async def lease_one(subject: "Subject") -> Lease:
    """The next lease, and no other."""
    (lease,) = (await subject.tick(capacity=1)).leases
    return lease


@asynccontextmanager
async def memory_subject() -> AsyncIterator[Subject]:
    """The implementation in memory."""
    tables = MemoryTables(SystemClock())
    subject = Subject(
        store=MemoryRunStore(tables),
        queue=MemoryStepQueue(tables),
        registry=MemoryEngineRegistry(tables),
        cache=MemoryColdCache(tables),
        tables=tables,
    )
    subject.engine = await subject.registry.register(str(uuid4()), "test", 3600.0)
    yield subject


@asynccontextmanager
async def postgres_subject(database_url: str, settings: Mapping[str, str] | None = None) -> AsyncIterator[Subject]:
    """The implementation on PostgreSQL, in an empty database; `settings` go on top of the scheduler's."""
    async with open_database(
        database_url, connections_max=4, settings={**PINNED_PLANS, **(settings or {})}
    ) as database:
        store = PostgresRunStore(database)
        subject = Subject(
            store=store,
            queue=PostgresStepQueue(database),
            registry=PostgresEngineRegistry(database),
            cache=PostgresOutputCache(database),
            database=database,
        )
        subject.engine = await subject.registry.register(str(uuid4()), "test", 3600.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.creations.run)
            yield subject
            tasks.cancel_scope.cancel()


def _int(status: int | None) -> int | None:
    return None if status is None else int(status)
