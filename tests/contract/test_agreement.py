"""Memory and PostgreSQL do the same, turn for turn and event for event, through random histories of runs."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from runengine_server.domain.cache import CacheFlight, CacheMiss, Claimant, FlightId
from runengine_server.domain.ids import EngineNo, RunKey, StepNo
from runengine_server.domain.states import FailurePolicy
from runengine_server.ports.step_queue import Completion, EndedRun, Following, Lease, TakenBack, Turn

from .queue_subject import Subject, Taking, memory_subject, postgres_subject
from .queue_values import LONG_MS, Needs, artifact, attempt_failed, filing, step_failed

pytestmark = pytest.mark.anyio

TURNS = 80
SEEDS = int(os.environ.get("AGREEMENT_SEEDS", "8"))


Flying = Mapping[FlightId, tuple[Claimant, Sequence[Claimant]]]


class Pair:
    """Both implementations side by side; runs and engines are known by the order in which they came."""

    def __init__(self, memory: Subject, postgres: Subject) -> None:
        self.sides = (memory, postgres)
        self.runs: list[tuple[RunKey, RunKey]] = []
        self.engines: list[tuple[EngineNo, EngineNo]] = [(memory.engine, postgres.engine)]
        self.held: list[tuple[int, Lease]] = []
        self.let_go: list[tuple[int, Lease]] = []
        self.follows = 0

    async def create(
        self, needs: Needs, priority: int, policy: FailurePolicy, taker: int | None, taken: Sequence[int]
    ) -> None:
        """A run on both sides; the engine `taker` leases these of its steps with it."""
        intakes = [None if taker is None else Taking(self.engines[taker][number], taken) for number in range(2)]
        memory, postgres = [
            await side.create(needs, priority=priority, policy=policy, intake=intake)
            for side, intake in zip(self.sides, intakes, strict=True)
        ]
        self.runs.append((memory, postgres))
        if taker is not None:
            told = [
                [(self._common(lease, number), miss) for lease, miss in zip(new.leases, new.misses, strict=True)]
                for number, intake in enumerate(intakes)
                if intake is not None
                for new in intake.told
            ]
            assert told[0] == told[1]
            self.held += [(taker, lease) for lease, _ in told[0]]

    async def tick(self, random: Random, engine: int, done: Sequence[tuple[int, Lease]], capacity: int) -> None:
        """One turn on both sides with the same completions, by the engine of that number."""
        choices = [random.random() for _ in done]
        asking = [(run, step) for run in range(len(self.runs)) for step in range(6) if random.random() < 0.5]
        known = [place for place in asking if random.random() < 0.2] if random.random() < 0.3 else None
        turns = []
        for number, side in enumerate(self.sides):
            completions = [
                self._completion(side, self._side(lease, number), choice)
                for (_, lease), choice in zip(done, choices, strict=True)
            ]
            turns.append(
                await side.tick(
                    *completions,
                    capacity=capacity,
                    engine=self.engines[engine][number],
                    asking=[(self.runs[run][number], StepNo(step)) for run, step in asking],
                    known=None if known is None else [(self.runs[run][number], StepNo(step)) for run, step in known],
                )
            )
        memory, postgres = (self._told(turn, number) for number, turn in enumerate(turns))
        assert memory == postgres
        recorded = [
            await side.queue.recorded(self.engines[engine][number], [self._side(lease, number) for _, lease in done])
            for number, side in enumerate(self.sides)
        ]
        memory, postgres = (
            (list(each.is_recorded), self._told_ended(each.ended, number)) for number, each in enumerate(recorded)
        )
        assert memory == postgres
        accepted = turns[0].accepted
        assert all(is_recorded for is_recorded, is_taken in zip(memory[0], accepted, strict=True) if is_taken)
        self.let_go += done
        self.held = [pair for pair in self.held if pair not in done] + [
            (engine, self._common(lease, 0)) for lease in turns[0].leases
        ]

    async def look_up(self, engine: int, lease: Lease) -> None:
        """The step asks the cache, and follows where another one executes the same."""
        answers, outcomes = [], []
        for number, side in enumerate(self.sides):
            mine = self._side(lease, number)
            answer = await side.look_up(mine)
            answers.append(answer.reason if isinstance(answer, CacheMiss) else type(answer))
            if isinstance(answer, CacheFlight):
                outcomes += await side.follow(mine, engine=self.engines[engine][number])
        assert answers[0] == answers[1]
        if outcomes:
            assert outcomes[0] == outcomes[1]
            self.follows += outcomes[0] is Following.WAITING
            self.held.remove((engine, lease))
            self.let_go.append((engine, lease))

    async def cancel(self, run: int) -> None:
        memory, postgres = [await side.cancel(self.runs[run][n]) for n, side in enumerate(self.sides)]
        assert memory == postgres

    async def kill(self, engine: int, *, softly: bool) -> None:
        """The engine retires, or dies and is reaped; another one takes its number."""
        told, fresh = [], []
        for number, side in enumerate(self.sides):
            if softly:
                taken = await side.registry.retire(self.engines[engine][number])
            else:
                assert await side.registry.renew(self.engines[engine][number], -1.0)
                taken = await side.registry.reap()
            told.append(self._told_taken(taken, number))
            fresh.append(await side.registry.register(str(uuid4()), "next", 3600.0))
        assert told[0] == told[1]
        self.engines[engine] = (fresh[0], fresh[1])
        self.let_go += [pair for pair in self.held if pair[0] == engine]
        self.held = [pair for pair in self.held if pair[0] != engine]

    async def hold(self, held: tuple[int, Lease], *, begins: bool) -> None:
        """The attempt waits for a slot, and begins or does not."""
        for number, side in enumerate(self.sides):
            engine, lease = self.engines[held[0]][number], self._side(held[1], number)
            await side.queue.hold(engine, lease)
            if begins:
                await side.queue.begin(engine, lease, 60_000)

    async def hand_back(self, leases: Sequence[tuple[int, Lease]]) -> None:
        """Leases are given up before their attempts begin."""
        memory, postgres = [
            self._told_taken(await side.queue.hand_back([self._side(lease, number) for _, lease in leases]), number)
            for number, side in enumerate(self.sides)
        ]
        assert memory == postgres
        self.held = [pair for pair in self.held if pair not in leases]

    async def compare(self) -> None:
        """Every run has the same history on both sides."""
        for keys in self.runs:
            memory, postgres = [await side.history(keys[n]) for n, side in enumerate(self.sides)]
            assert memory == postgres
            assert [event[0] for event in memory] == list(range(1, len(memory) + 1))
        flights = [await side.flights() for side in self.sides]
        assert self._flying(flights[0], 0) == self._flying(flights[1], 1)

    def is_held(self, lease: Lease) -> bool:
        """True while the lease is good."""
        tables, mine = self.sides[0].tables, self._side(lease, 0)
        assert tables is not None
        queued = tables.queue.get((mine.run, mine.step))
        return queued is not None and queued.engine is not None and queued.epoch == lease.epoch

    def _completion(self, side: Subject, lease: Lease, choice: float) -> Completion:
        """The same completion on either side."""
        if choice < 0.55:
            artifacts = [artifact("x")] if choice < 0.1 else []
            filed = filing(lease.step) if choice > 0.52 else None
            return side.executed(lease, *artifacts, output="same", filing=filed, is_flying=True)
        if choice < 0.65:
            return side.reused(lease, (lease.run, StepNo(0)), is_flying=True)
        if choice < 0.9:
            return attempt_failed(lease, delay_ms=LONG_MS if choice > 0.88 else 0)
        return step_failed(lease, is_attempted=choice < 0.97)

    def _told(self, turn: Turn, number: int) -> object:
        return (
            list(turn.accepted),
            [self._common(lease, number) for lease in turn.leases],
            [None if miss is None else miss.reason for miss in turn.misses],
            None if turn.next_available_s is None else turn.next_available_s > 0,
            {self._index(run, number) for run in turn.begun},
            self._told_ended(turn.ended, number),
        )

    def _told_taken(self, taken: TakenBack, number: int) -> object:
        return {self._index(run, number) for run in taken.runs}, self._told_ended(taken.ended, number)

    def _told_ended(self, ended: Sequence[EndedRun], number: int) -> object:
        return {
            (self._index(e.run, number), e.status, e.failed_step, e.failure.code if e.failure else None) for e in ended
        }

    def _index(self, run: RunKey, number: int) -> int:
        return next(index for index, keys in enumerate(self.runs) if keys[number] == run)

    def _common(self, lease: Lease, number: int) -> Lease:
        """The lease with its run by index."""
        return replace(lease, run=RunKey(self._index(lease.run, number)))

    def _side(self, lease: Lease, number: int) -> Lease:
        return replace(lease, run=self.runs[lease.run][number])

    def _flying(self, flights: Flying, number: int) -> object:
        """The flights with runs by index."""
        return {
            flight: [(self._index(run, number), step) for run, step in (leader, *followers)]
            for flight, (leader, followers) in flights.items()
        }


class FirstOnes(Random):
    """Draws no lots: whoever is first wins."""

    def sample(self, population: Sequence[Any], k: int, *, counts: object = None) -> list[Any]:
        return list(population[:k])


@pytest.fixture
async def certain(database_url: str) -> AsyncIterator[Mapping[str, str]]:
    """Settings of connections to a database that draws no lots either."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "CREATE SCHEMA certain;"
            " CREATE FUNCTION certain.random() RETURNS float8 LANGUAGE sql AS 'SELECT 0.0::float8'"
        )
        yield {"search_path": "certain, public, pg_catalog"}
        await connection.execute("DROP SCHEMA certain CASCADE")
    finally:
        await connection.close()


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_both_do_the_same(database_url: str, certain: Mapping[str, str], seed: int) -> None:
    """Random runs, completions of every kind, stale ones, cancels, deaths and retirements have one outcome."""
    random = Random(f"agreement {seed}")
    async with memory_subject() as memory, postgres_subject(database_url, certain) as postgres:
        assert memory.tables is not None
        memory.tables.lots = FirstOnes()
        pair = Pair(memory, postgres)
        for _ in range(TURNS):
            await _step(pair, random)
        await pair.compare()
        assert len(pair.let_go) > 5, "nothing happened"
        assert pair.follows or seed >= 8, "nothing followed, in a story that is always told"


async def _step(pair: Pair, random: Random) -> None:
    choice = random.random()
    if choice < 0.25 or not pair.runs:
        needs = _needs(random)
        taker = random.randrange(len(pair.engines)) if random.random() < 0.5 else None
        taken = [step for step, direct in needs.items() if not direct and random.random() < 0.8]
        await pair.create(needs, random.choice([0, 0, 0, 5]), random.choice(list(FailurePolicy)), taker, taken)
    elif choice < 0.29:
        await pair.cancel(random.randrange(len(pair.runs)))
    elif choice < 0.35 and pair.held:
        await pair.hold(random.choice(pair.held), begins=random.random() < 0.5)
    elif choice < 0.38:
        await pair.hand_back(random.sample(pair.held, min(len(pair.held), 2)))
    elif choice < 0.41:
        if len(pair.engines) < 2:
            fresh = [await side.registry.register(str(uuid4()), "second", 3600.0) for side in pair.sides]
            pair.engines.append((fresh[0], fresh[1]))
        else:
            await pair.kill(random.randrange(2), softly=random.random() < 0.5)
    elif choice < 0.66 and (good := [held for held in pair.held if pair.is_held(held[1])]):
        await pair.look_up(*random.choice(good))
    else:
        engine = random.randrange(len(pair.engines))
        mine = [held for held in pair.held if held[0] == engine]
        done = random.sample(mine, random.randint(0, len(mine)))
        if pair.let_go and random.random() < 0.2:
            done.append(random.choice(pair.let_go))
        await pair.tick(random, engine, list(dict.fromkeys(done)), random.randint(0, 6))


def _needs(random: Random) -> Needs:
    return {n: sorted(random.sample(range(n), random.randint(0, min(n, 2)))) for n in range(random.randint(1, 6))}
