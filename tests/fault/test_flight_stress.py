"""Random engines on identical runs: whatever ends leaders and followers, runs end and nobody waits for ever."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from time import monotonic
from uuid import UUID

import anyio
import asyncpg
import pytest

from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.database import PINNED_PLANS, open_database
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.domain.cache import CacheFlight, CacheHit, CacheKey, CacheQuery, Claimant, Fingerprint, FlightId
from runengine_server.domain.ids import EngineNo, StepNo
from runengine_server.domain.states import FailurePolicy
from runengine_server.ports.step_queue import CacheQuestion, Completion, Following, Lease

from ..support.hand_driven import TENANT, CreateOptions, DrivenRun, HandDriven, hand_driven, random_dag
from ..support.invariants import Acknowledged, check_invariants, report

pytestmark = pytest.mark.anyio

SEEDS = (1, 2, 3)
ENGINES = 4
RUNS = 150
ENDS_S_MAX = 60.0
HAPPENS = (
    "led at once", "led", "followed", "found", "filed", "not filed", "retried", "failed", "cancelled", "late",
    "removed", "reaped", "lease lost", "ended meanwhile",
)  # fmt: skip
"""What each seed must have seen. What chance may leave out on a slow machine is brought about once (`Chaos.lacks`)."""


@dataclass(slots=True, kw_only=True)
class Chaos:
    """What one seed does, and what came of it."""

    random: Random
    driven: HandDriven
    happened: Counter[str] = field(default_factory=Counter)
    created: list[DrivenRun] = field(default_factory=list)
    cancelled: list[DrivenRun] = field(default_factory=list)
    is_over: bool = False

    def chance(self, share: float) -> bool:
        """True for this share of the calls."""
        return self.random.random() < share

    def lacks(self, what: str) -> bool:
        """True until it has happened: whoever can is to bring it about."""
        return self.happened[what] == 0

    async def cancel(self, run: DrivenRun) -> bool:
        """Cancel a run; False when it has ended."""
        if not await self.driven.store.cancel(TENANT, run.run_id, "ann", "because"):
            return False
        self.cancelled.append(run)
        self.happened["cancelled"] += 1
        return True

    async def end_flight(self, flight: FlightId) -> None:
        """Cancel whoever leads the flight, one after the other, until nobody does or one has just ended by itself."""
        leading = "SELECT run FROM cache_flights WHERE flight = $1"
        while run := self.driven.runs.get(await self.driven.database.fetchval(leading, flight)):
            if not await self.cancel(run):
                break

    async def remove_entries(self) -> None:
        """Half of the cache's entries go."""
        removed = await self.driven.database.fetch("DELETE FROM step_cache WHERE random() < 0.5 RETURNING 1")
        self.happened["removed"] += len(removed)

    def query(self, place: Claimant) -> CacheQuery:
        """What the step asks the cache: equal for the same step of runs of one variant."""
        run = self.driven.runs[place[0]]
        step = run.compiled.workflow.steps[place[1]]
        input_hash, _ = self.driven.input_and_output(Lease(*place, 0, 0, 0))
        return CacheQuery(
            key=CacheKey(
                tenant=TENANT, workflow_name=run.compiled.workflow.name, step_id=step.step_id, input_hash=input_hash
            ),
            fingerprint=Fingerprint(skill_id=step.skill_id, cache_version="1", cache_epoch=""),
            hot_ttl_s=60,
            claimant=place,
        )


@dataclass(slots=True, kw_only=True)
class RandomEngine:
    """An engine that asks, leads, follows and ends steps at random."""

    chaos: Chaos
    queue: PostgresStepQueue
    registry: PostgresEngineRegistry
    cache: PostgresOutputCache
    engine: EngineNo = EngineNo(0)  # noqa: RUF009 - a NewType's call makes an int
    undecided: list[Lease] = field(default_factory=list)
    executing: list[Lease] = field(default_factory=list)
    settled: list[Completion] = field(default_factory=list)

    async def run(self) -> None:
        """Work until every run has ended."""
        self.engine = await self.registry.register(_uuid(self.chaos.random), "random", 3600.0)
        while not self.chaos.is_over:
            if self.chaos.chance(0.05):
                await self._renew()
            await self._decide()
            for lease in [lease for lease in self.executing if self.chaos.chance(0.5)]:
                self.executing.remove(lease)
                self.settled.append(self._settle(lease))
            await self._tick()

    async def _renew(self) -> None:
        if not await self.registry.renew(self.engine, 3600.0):
            self.engine = await self.registry.register(_uuid(self.chaos.random), "random", 3600.0)

    async def _tick(self) -> None:
        chaos, batch = self.chaos, self.settled
        self.settled = []
        capacity = chaos.random.randint(0, 15)
        turn = await self.queue.tick(self.engine, batch, capacity, self._questions())
        if chaos.lacks("removed"):
            await chaos.remove_entries()
        for lease, miss in zip(turn.leases, turn.misses, strict=True):
            if miss is not None:
                chaos.happened["led at once"] += 1
            (self.undecided if miss is None else self.executing).append(lease)
        if not turn.leases and not batch:
            await anyio.sleep(0.005)

    def _questions(self) -> Sequence[CacheQuestion]:
        chaos = self.chaos
        runs = chaos.random.sample(chaos.created[-20:], min(5, len(chaos.created[-20:])))
        places = sorted(
            (run.key, StepNo(n)) for run in runs for n in range(len(run.compiled.workflow.steps)) if chaos.chance(0.7)
        )
        return [CacheQuestion(query, query.flight, is_step_known=False) for query in map(chaos.query, places)]

    async def _decide(self) -> None:
        chaos = self.chaos
        # A run may be leased before its creator has heard that it exists.
        asking = [lease for lease in self.undecided if lease.run in chaos.driven.runs]
        if not asking:
            return
        self.undecided = [lease for lease in self.undecided if lease not in asking]
        queries = [chaos.query((lease.run, lease.step)) for lease in asking]
        waits = []
        for lease, query, answer in zip(asking, queries, await self.cache.lookup(queries), strict=True):
            match answer:
                case CacheHit(entry=entry):
                    chaos.happened["found"] += 1
                    reused = chaos.driven.reused(lease, (entry.producer.run, entry.producer.step))
                    self.settled.append(replace(reused, flight=query.flight))
                case CacheFlight():
                    waits.append((lease, query.flight))
                case _:
                    chaos.happened["led"] += 1
                    self.executing.append(lease)
        if waits:
            if chaos.lacks("lease lost"):
                await self._lose_leases()
            elif chaos.lacks("ended meanwhile"):
                await chaos.end_flight(waits[0][1])
            followed = await self.queue.follow(self.engine, waits)
            for (lease, _), outcome in zip(waits, followed.outcomes, strict=True):
                chaos.happened[
                    {
                        Following.WAITING: "followed",
                        Following.FLIGHT_ENDED: "ended meanwhile",
                        Following.LEASE_LOST: "lease lost",
                    }[outcome]
                ] += 1
                if outcome is Following.FLIGHT_ENDED:
                    self.undecided.append(lease)

    async def _lose_leases(self) -> None:
        """The engine is taken for dead, and does not know it yet."""
        await self.registry.renew(self.engine, -1.0)
        self.chaos.happened["reaped"] += len((await self.registry.reap()).runs)

    def _settle(self, lease: Lease) -> Completion:
        chaos, driven = self.chaos, self.chaos.driven
        retries = driven.runs[lease.run].compiled.workflow.steps[lease.step].retry_policy.max_attempts
        if chaos.chance(0.1) and lease.attempt < retries:
            chaos.happened["retried"] += 1
            return driven.attempt_failed(lease, delay_ms=chaos.random.choice((0, 0, 5)))
        if chaos.chance(0.05):
            chaos.happened["failed"] += 1
            return driven.step_failed(lease)
        is_filed = chaos.chance(0.6) and not chaos.lacks("not filed")
        chaos.happened["filed" if is_filed else "not filed"] += 1
        return replace(driven.executed(lease, is_filed=is_filed), flight=chaos.query((lease.run, lease.step)).flight)


async def _disturb(chaos: Chaos, registry: PostgresEngineRegistry) -> None:
    """Engines die, deadlines pass, runs are cancelled and entries removed while they are wanted."""
    driven, random = chaos.driven, chaos.random
    while not chaos.is_over:
        await anyio.sleep(0.02)
        if chaos.chance(0.1):
            await driven.database.fetch(
                "UPDATE engines SET lease_until = now() - interval '1 second' WHERE engine ="
                " (SELECT engine FROM engines ORDER BY random() LIMIT 1)"
            )
        if chaos.chance(0.3):
            await chaos.remove_entries()
        if chaos.lacks("late"):
            await driven.database.fetch(
                "UPDATE run_progress SET deadline = now()"
                " WHERE run = (SELECT max(run) FROM run_progress WHERE status < 3)"
            )
        chaos.happened["reaped"] += len((await registry.reap()).runs)
        chaos.happened["late"] += len(await registry.enforce_deadlines())
        if chaos.created and chaos.chance(0.4) and len(chaos.created) < RUNS:
            await chaos.cancel(random.choice(chaos.created[-10:]))


async def _create_runs(chaos: Chaos) -> None:
    random = chaos.random
    workflows = [random_dag(random, f"dag{n}") for n in range(2)]
    for _ in range(RUNS):
        options = CreateOptions(
            policy=random.choice(list(FailurePolicy)),
            priority=random.choice((0, 0, 5)),
            deadline_s=random.choice((None, None, None, None, 0.05, 2.0)),
        )
        chaos.created.append(
            await chaos.driven.started(random.choice(workflows), options, variant=str(random.randint(0, 1)))
        )
        await anyio.sleep(random.random() * 0.01)


async def _wait_for_the_end(chaos: Chaos) -> None:
    deadline = monotonic() + ENDS_S_MAX
    while True:
        live = await chaos.driven.database.fetchval("SELECT count(*) FROM run_progress WHERE status < 3")
        if live == 0 and len(chaos.created) == RUNS:
            chaos.is_over = True
            return
        assert monotonic() < deadline, f"{live} runs did not end; {dict(chaos.happened)}"
        await anyio.sleep(0.05)


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_flights_keep_the_invariants(database_url: str, seed: int) -> None:
    """Every run ends, no deadlock, every invariant holds and no flight is left, whatever ends leaders and followers."""
    async with hand_driven(database_url) as driven:
        chaos = Chaos(random=Random(seed), driven=driven)
        async with anyio.create_task_group() as tasks:
            for _ in range(ENGINES):
                tasks.start_soon(_engine_with_connections, chaos)
            tasks.start_soon(_disturb, chaos, driven.registry)
            tasks.start_soon(_create_runs, chaos)
            tasks.start_soon(_wait_for_the_end, chaos)
        await driven.database.fetch("UPDATE cache_flights SET started_at = started_at - interval '1 minute'")
        await driven.registry.reap()
        assert not await driven.database.fetch("SELECT FROM cache_flights"), "a flight was forgotten"
    connection = await asyncpg.connect(database_url)
    try:
        cancelled = {run.key for run in chaos.cancelled}
        acknowledged = [Acknowledged(run_id=r.run_id, is_cancelled=r.key in cancelled) for r in chaos.created]
        violations = await check_invariants(connection, acknowledged=acknowledged)
        assert not violations, report(violations)
        deadlocks = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        assert deadlocks == 0
    finally:
        await connection.close()
    for what in HAPPENS:
        assert chaos.happened[what] > 0, f"nothing was {what}"


async def _engine_with_connections(chaos: Chaos) -> None:
    async with open_database(chaos.driven.url, connections_max=2, settings=PINNED_PLANS) as database:
        await RandomEngine(
            chaos=chaos,
            queue=PostgresStepQueue(database),
            registry=PostgresEngineRegistry(database),
            cache=PostgresOutputCache(database),
        ).run()


def _uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
