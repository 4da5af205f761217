"""Random engines on random DAGs against a real PostgreSQL: whatever they do, runs end and the invariants hold."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from uuid import UUID

import anyio
import asyncpg
import pytest

from runengine_server.adapters.postgres.database import PINNED_PLANS, open_database
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.domain.states import FailurePolicy
from runengine_server.ports.step_queue import Completion, Lease, StepExecuted

from ..support.hand_driven import TENANT, CreateOptions, DrivenRun, HandDriven, file_named, hand_driven, random_dag
from ..support.invariants import Acknowledged, check_invariants, report

pytestmark = pytest.mark.anyio

SEEDS = (1, 2, 3, 4)
ENGINES = 4
RUNS = 150
ENDS_S_MAX = 60.0
LEASE_S = 3600.0
FAULTS = (
    "reaped", "engine lost", "rejected late", "rejected again", "said twice at once", "cancelled", "retried", "failed",
    "reused", "reply lost", "late",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Chaos:
    """What one seed does, and what came of it."""

    random: Random
    driven: HandDriven
    happened: Counter[str] = field(default_factory=Counter)
    accepted: Counter[Lease] = field(default_factory=Counter)
    producers: dict[str, tuple[RunKey, StepNo]] = field(default_factory=dict)
    created: list[DrivenRun] = field(default_factory=list)
    cancelled: set[RunKey] = field(default_factory=set)
    is_over: bool = False

    def chance(self, share: float) -> bool:
        """True for this share of the calls."""
        return self.random.random() < share


@dataclass(slots=True, kw_only=True)
class RandomEngine:
    """An engine that ticks with random completions, repeats itself, loses replies and may lose its lease."""

    chaos: Chaos
    queue: PostgresStepQueue
    registry: PostgresEngineRegistry
    engine: int = 0
    held: list[Lease] = field(default_factory=list)
    said: list[Completion] = field(default_factory=list)

    async def run(self) -> None:
        """Tick until every run has ended."""
        self.engine = await self.registry.register(_uuid(self.chaos.random), "random", LEASE_S)
        while not self.chaos.is_over:
            if self.chaos.chance(0.05):
                await self._renew()
            batch = self._batch()
            turn_over = self._tick_and_lose_the_reply if self.chaos.chance(0.1) else self._tick
            await turn_over(batch)

    async def _renew(self) -> None:
        if await self.registry.renew(self.engine, LEASE_S):  # type: ignore[arg-type]
            # As the scheduler does: leases that a lost reply granted are found here, those that are gone forgotten.
            self.held = list((await self.queue.owned(self.engine)).leases)  # type: ignore[arg-type]
        else:
            self.chaos.happened["engine lost"] += 1
            self.engine = await self.registry.register(_uuid(self.chaos.random), "random", LEASE_S)
            self.chaos.happened["stale in hand"] += len(self.held)

    def _batch(self) -> list[Completion]:
        random = self.chaos.random
        # A run may be leased before its creator has heard that it exists.
        known = [lease for lease in self.held if lease.run in self.chaos.driven.runs]
        settled = random.sample(known, random.randint(0, len(known)))
        batch = [self._settle(lease) for lease in settled]
        self.held = [lease for lease in self.held if lease not in settled]
        if self.said and self.chaos.chance(0.2):
            batch += random.sample(self.said, min(3, len(self.said)))
            self.chaos.happened["said again"] += 1
        if batch and self.chaos.chance(0.2):
            batch.append(batch[0])
            self.chaos.happened["said twice at once"] += 1
        return batch

    def _settle(self, lease: Lease) -> Completion:
        chaos, driven = self.chaos, self.chaos.driven
        run = driven.runs[lease.run]
        retries = run.compiled.workflow.steps[lease.step].retry_policy.max_attempts
        if chaos.chance(0.1) and lease.attempt < retries:
            chaos.happened["retried"] += 1
            return driven.attempt_failed(lease, delay_ms=chaos.random.choice((0, 0, 5, 30)))
        if chaos.chance(0.02):
            chaos.happened["failed"] += 1
            return driven.step_failed(lease)
        input_hash, _ = driven.input_and_output(lease)
        if input_hash in chaos.producers and chaos.chance(0.3):
            chaos.happened["reused"] += 1
            return driven.reused(lease, chaos.producers[input_hash])
        names = [f"{input_hash}-{n}" for n in range(chaos.random.choice((0, 0, 1, 2)))]
        return driven.executed(lease, *map(file_named, names), is_filed=chaos.chance(0.5))

    async def _tick(self, batch: list[Completion]) -> None:
        capacity = self.chaos.random.randint(0, 20)
        turn = await self.queue.tick(self.engine, batch, capacity)  # type: ignore[arg-type]
        assert len(turn.leases) <= capacity
        for completion, is_accepted in zip(batch, turn.accepted, strict=True):
            lease = completion.lease
            if not is_accepted:
                self.chaos.happened["rejected late" if not self.chaos.accepted[lease] else "rejected again"] += 1
                continue
            self.chaos.accepted[lease] += 1
            if isinstance(completion, StepExecuted):
                self.chaos.producers.setdefault(completion.input_hash, (lease.run, lease.step))
        self.said = (self.said + batch)[-50:]
        self.held += turn.leases
        if not turn.leases and not batch:
            await anyio.sleep(min(0.01, turn.next_available_s or 0.01))

    async def _tick_and_lose_the_reply(self, batch: list[Completion]) -> None:
        """The statement is cancelled at a random moment, or commits unheard; then it is sent again."""
        if self.chaos.chance(0.5):
            await self.queue.tick(self.engine, batch, self.chaos.random.randint(0, 20))  # type: ignore[arg-type]
        else:
            with anyio.move_on_after(self.chaos.random.random() * 0.01):
                await self.queue.tick(self.engine, batch, self.chaos.random.randint(0, 20))  # type: ignore[arg-type]
        self.chaos.happened["reply lost"] += 1
        await self._tick(batch)


async def _steal_leases(chaos: Chaos, registry: PostgresEngineRegistry) -> None:
    """Engines are declared dead while they work; deadlines are enforced; runs are cancelled."""
    driven, random = chaos.driven, chaos.random
    while not chaos.is_over:
        await anyio.sleep(0.02)
        if chaos.chance(0.2):
            await driven.database.fetch(
                "UPDATE engines SET lease_until = now() - interval '1 second' WHERE engine ="
                " (SELECT engine FROM engines ORDER BY random() LIMIT 1)"
            )
        chaos.happened["reaped"] += len((await registry.reap()).runs)
        chaos.happened["late"] += len(await registry.enforce_deadlines())
        if chaos.created and chaos.chance(0.2):
            run = random.choice(chaos.created[-10:])
            if len(chaos.created) < RUNS and await driven.store.cancel(TENANT, run.run_id, "ann", "because"):
                chaos.cancelled.add(run.key)
                chaos.happened["cancelled"] += 1


async def _create_runs(chaos: Chaos) -> None:
    random = chaos.random
    workflows = [random_dag(random, f"dag{n}") for n in range(5)]
    for _ in range(RUNS):
        options = CreateOptions(
            policy=random.choice(list(FailurePolicy)),
            priority=random.choice((0, 0, 5, 9)),
            deadline_s=random.choice((None, None, None, None, 0.05, 2.0)),
        )
        chaos.created.append(
            await chaos.driven.started(random.choice(workflows), options, variant=str(random.randint(0, 2)))
        )
        await anyio.sleep(random.random() * 0.02)


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
async def test_random_engines_keep_the_invariants(database_url: str, seed: int) -> None:
    """Every run ends, nothing is accepted twice, no deadlock, every invariant holds, whatever engines do."""
    async with hand_driven(database_url) as driven:
        chaos = Chaos(random=Random(seed), driven=driven)
        async with anyio.create_task_group() as tasks:
            for _ in range(ENGINES):
                tasks.start_soon(_engine_with_connections, chaos)
            tasks.start_soon(_steal_leases, chaos, driven.registry)
            tasks.start_soon(_create_runs, chaos)
            tasks.start_soon(_wait_for_the_end, chaos)
    connection = await asyncpg.connect(database_url)
    try:
        acknowledged = [Acknowledged(run_id=r.run_id, is_cancelled=r.key in chaos.cancelled) for r in chaos.created]
        violations = await check_invariants(connection, acknowledged=acknowledged)
        assert not violations, report(violations)
        deadlocks = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        assert deadlocks == 0
    finally:
        await connection.close()
    assert max(chaos.accepted.values()) == 1, "a completion was accepted twice"
    for fault in FAULTS:
        assert chaos.happened[fault] > 0, f"nothing was {fault}"


async def _engine_with_connections(chaos: Chaos) -> None:
    async with open_database(chaos.driven.url, connections_max=2, settings=PINNED_PLANS) as database:
        await RandomEngine(
            chaos=chaos, queue=PostgresStepQueue(database), registry=PostgresEngineRegistry(database)
        ).run()


def _uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
