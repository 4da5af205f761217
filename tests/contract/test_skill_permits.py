"""What permits of limited skills must do, in memory and on PostgreSQL."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from uuid import uuid4

import anyio
import pytest

from runengine_server.adapters.memory.skill_permits import MemorySkillPermits
from runengine_server.adapters.postgres.skill_permits import PostgresSkillPermits
from runengine_server.domain.ids import EngineNo, SkillId
from runengine_server.ports.skill_permits import PermitClaim, PermitGrant, SkillPermits

from .queue_subject import Subject

pytestmark = pytest.mark.anyio

SKILL = SkillId("image.render")


@dataclass(slots=True, kw_only=True)
class Holder:
    """An engine as the table knows it; `held` is what it may use."""

    permits: SkillPermits
    engine: EngineNo
    held: int = 0
    turn: int = 0

    async def asks(
        self, wanted: int, *, limit: int = 8, kept: int | None = None, skill: SkillId = SKILL
    ) -> PermitGrant | None:
        """The answer to one claim; None when there is none."""
        self.held = self.held if kept is None else kept
        self.turn += 1
        claim = PermitClaim(skill_id=skill, limit=limit, wanted=wanted, kept=self.held)
        grants = await self.permits.exchange(self.engine, self.turn, [claim])
        if not grants:
            return None
        self.held = grants[0].held
        return grants[0]


@dataclass(slots=True)
class Table:
    """The permits under test, and hands to make engines with."""

    subject: Subject
    freed: list[EngineNo] = field(default_factory=list)

    async def engine(self, lease_s: float = 3600.0) -> Holder:
        """An engine that holds nothing yet."""
        engine = await self.subject.registry.register(str(uuid4()), "holder", lease_s)
        return Holder(permits=self._permits(lambda: self.freed.append(engine)), engine=engine)

    async def forget_wants(self, engine: EngineNo) -> None:
        """The engine's last exchange was long ago."""
        if self.subject.tables is not None:
            self.subject.tables.permits[SKILL][engine].asked_at -= 10.0
        else:
            assert self.subject.database is not None
            await self.subject.database.fetch(
                "UPDATE skill_permits SET asked_at = asked_at - interval '10 seconds' WHERE engine = $1", engine
            )

    def _permits(self, on_freed: Callable[[], None]) -> SkillPermits:
        if self.subject.tables is not None:
            return MemorySkillPermits(self.subject.tables, on_freed)
        assert self.subject.database is not None
        return PostgresSkillPermits(self.subject.database, on_freed)


@pytest.fixture
async def table(subject: Subject) -> Table:
    """No permits are out, and no engine is there but those that the test makes."""
    await subject.registry.retire(subject.engine)
    return Table(subject)


async def test_one_engine_alone_holds_the_whole_block(table: Table) -> None:
    """The first attempt brings every permit, so that those after it ask nobody; what is not used goes back whole."""
    alone = await table.engine()
    assert await alone.asks(1) == PermitGrant(skill_id=SKILL, held=8, target=8)
    assert await alone.asks(8) == PermitGrant(skill_id=SKILL, held=8, target=8)
    assert await alone.asks(0, kept=0) == PermitGrant(skill_id=SKILL, held=0, target=0)


async def test_engines_that_want_much_share_equally(table: Table) -> None:
    """Who holds all comes down as its attempts end, never before; then the other gets its half."""
    one, two = await table.engine(), await table.engine()
    await one.asks(8)
    assert one.held == 8
    assert await two.asks(20) == PermitGrant(skill_id=SKILL, held=0, target=4)
    assert await one.asks(8) == PermitGrant(skill_id=SKILL, held=8, target=4)
    assert await one.asks(8, kept=6) == PermitGrant(skill_id=SKILL, held=6, target=4)
    assert await two.asks(20) == PermitGrant(skill_id=SKILL, held=2, target=4)
    await one.asks(8, kept=4)
    assert await two.asks(20) == PermitGrant(skill_id=SKILL, held=4, target=4)


async def test_what_one_does_not_want_another_gets(table: Table) -> None:
    """Shares are of what is wanted; permits that nobody wants are spread over the engines, for the next attempt."""
    one, two = await table.engine(), await table.engine()
    assert await one.asks(1) == PermitGrant(skill_id=SKILL, held=4, target=4)
    assert await two.asks(20) == PermitGrant(skill_id=SKILL, held=4, target=7)
    await one.asks(1, kept=1)
    assert await two.asks(20) == PermitGrant(skill_id=SKILL, held=7, target=7)


@pytest.mark.parametrize(("limit", "engines"), [(1, 2), (1, 3), (2, 3), (2, 5), (4, 5)])
async def test_nobody_starves(table: Table, limit: int, engines: int) -> None:
    """With fewer permits than engines they go round, also when everyone asks only now and then, in any order."""
    holders = [await table.engine() for _ in range(engines)]
    served = dict.fromkeys(range(engines), 0)
    for _ in range(engines * 6):
        for number, holder in enumerate(holders):
            grant = await holder.asks(3, limit=limit)
            assert grant is not None
            if holder.held > grant.target:  # its attempt has ended
                await holder.asks(3, limit=limit, kept=grant.target)
            served[number] += holder.held
        assert sum(holder.held for holder in holders) <= limit
    assert min(served.values()) >= 6 * limit // 2


async def test_the_lower_limit_wins(table: Table) -> None:
    """While engines were told different limits, the lowest of those that use the skill counts."""
    one, two = await table.engine(), await table.engine()
    await one.asks(8, limit=8)
    assert await two.asks(8, limit=4) == PermitGrant(skill_id=SKILL, held=0, target=2)
    assert await one.asks(8, limit=8, kept=2) == PermitGrant(skill_id=SKILL, held=2, target=2)
    await two.asks(8, limit=4)
    assert (one.held, two.held) == (2, 2)
    await two.asks(0, limit=4, kept=0)
    await one.asks(8, limit=8)
    assert one.held == 8


async def test_a_late_turn_changes_nothing(table: Table) -> None:
    """An exchange that was given up for lost and arrives after a later one is refused."""
    one = await table.engine()
    late = PermitClaim(skill_id=SKILL, limit=8, wanted=0, kept=0)
    one.turn = 1
    await one.asks(8)
    assert list(await one.permits.exchange(one.engine, 1, [late])) == []
    assert list(await one.permits.exchange(one.engine, 2, [late])) == []
    other = await table.engine()
    await other.asks(1)
    assert other.held == 0


async def test_permits_return_with_the_engines_row(table: Table) -> None:
    """An engine whose lease has ended gets none and gives none; once it is reaped others have what it held."""
    dead, other = await table.engine(), await table.engine()
    await dead.asks(8, kept=0)
    await dead.asks(8)
    held = dead.held
    assert held > 0
    await table.subject.registry.renew(dead.engine, -1.0)
    assert await dead.asks(8) is None
    await other.asks(8)
    assert other.held <= 8 - held
    await table.subject.registry.reap()
    await other.asks(8)
    assert other.held == 8
    assert await dead.asks(8) is None


async def test_permits_of_an_engine_that_retires_return(table: Table) -> None:
    """Nothing need be said: the row is gone."""
    one, other = await table.engine(), await table.engine()
    await one.asks(8)
    await table.subject.registry.retire(one.engine)
    await other.asks(8)
    assert other.held == 8


async def test_wants_of_the_silent_are_forgotten(table: Table) -> None:
    """An engine that died or froze keeps what it holds, but reserves nothing more."""
    silent, other = await table.engine(), await table.engine()
    await other.asks(2)
    await silent.asks(20)
    silent_held = silent.held
    assert silent_held > 0
    await table.forget_wants(silent.engine)
    await other.asks(20)
    assert other.held == 8 - silent_held


async def test_giving_back_tells_those_who_wait(table: Table) -> None:
    """The engine that gives back what another waits for knows it; giving back what nobody wants is silent."""
    one, two = await table.engine(), await table.engine()
    await one.asks(8)
    await one.asks(8, kept=6)
    assert table.freed == []
    await one.asks(8)
    await two.asks(8)
    assert table.freed == []
    await one.asks(8, kept=4)
    assert table.freed == [one.engine]
    await two.asks(8)
    await two.asks(0, kept=0)
    await one.asks(0, kept=0)
    assert table.freed == [one.engine, two.engine]


async def test_skills_are_apart(table: Table) -> None:
    """Permits of one skill say nothing of another."""
    one, two = await table.engine(), await table.engine()
    await one.asks(8, skill=SkillId("a"))
    assert await two.asks(2, limit=2, skill=SkillId("b")) == PermitGrant(skill_id=SkillId("b"), held=2, target=2)


@pytest.mark.parametrize("seed", range(5))
async def test_random_engines_keep_the_limit(table: Table, seed: int) -> None:
    """Whatever engines want, keep and do not hear (replies are lost), together they never use more than the limit."""
    random = Random(seed)
    skills = [SkillId(f"s{n}") for n in range(3)]
    limits = {skill: random.randint(1, 5) for skill in skills}
    workers = [_Worker(await table.engine(), Random(seed * 10 + n), limits) for n in range(4)]
    async with anyio.create_task_group() as tasks:
        for worker in workers:
            tasks.start_soon(worker.work, workers, 60)
    assert sum(worker.granted for worker in workers) > 20


class _Worker:
    """An engine that exchanges permits of several skills at random, in any order."""

    def __init__(self, holder: Holder, random: Random, limits: dict[SkillId, int]) -> None:
        self.usable = dict.fromkeys(limits, 0)
        self.granted = 0
        self._holder = holder
        self._random = random
        self._limits = limits

    async def work(self, everyone: Sequence["_Worker"], rounds: int) -> None:
        for _ in range(rounds):
            await self._exchange()
            for skill, limit in self._limits.items():
                assert sum(worker.usable[skill] for worker in everyone) <= limit

    async def _exchange(self) -> None:
        skills = self._random.sample(list(self._limits), self._random.randint(1, len(self._limits)))
        claims = []
        for skill in skills:
            self.usable[skill] = self._random.randint(0, self.usable[skill])
            claims.append(
                PermitClaim(
                    skill_id=skill,
                    limit=self._limits[skill],
                    wanted=self._random.randint(self.usable[skill], 6),
                    kept=self.usable[skill],
                )
            )
        self._holder.turn += 1
        grants = await self._holder.permits.exchange(self._holder.engine, self._holder.turn, claims)
        if self._random.random() < 0.2:
            return  # the reply was lost
        for grant in grants:
            self.granted += max(0, grant.held - self.usable[grant.skill_id])
            self.usable[grant.skill_id] = grant.held
