"""Limits of skills: kept, used to the full, at no cost per step, and in nobody else's way."""

from collections.abc import Sequence
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import EngineNo, RunKey, SkillId, StepNo
from runengine_server.domain.states import RunStatus
from runengine_server.domain.workflow import StepDefinition
from runengine_server.ports.skill_permits import PermitClaim, PermitGrant
from runengine_server.ports.skill_runner import Outcome, SkillAvailability, SkillCall, SkillInfo
from runengine_server.ports.step_queue import Lease, TakenBack
from runengine_server.scheduler.skill_gate import SkillGate

from .doubles import succeeded
from .stage import BY_SIGNAL, SHORT_LEASE, TENANT, Stage, chain, settle_down, stage, step, workflow

pytestmark = pytest.mark.anyio

AWAY = UnavailableError("DATABASE_UNAVAILABLE", "away")
SKILL = SkillId("t.limited")
# Permits are looked at so often that no test waits for it.
OFTEN = replace(BY_SIGNAL, permits_s=0.01)


def limited(*names: str) -> list[StepDefinition]:
    """Steps of one skill."""
    return [replace(step(name, is_cached=False), skill_id=SKILL) for name in names]


def work_a_while(on: Stage, names: Sequence[str]) -> None:
    """Attempts of these steps overlap."""

    async def work(call: SkillCall) -> Outcome:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        return succeeded(call)

    on.skills.behaviour.update(dict.fromkeys(names, work))


def limit_only(on: Stage, limit: int) -> None:
    """The one skill has a limit, others have none."""
    availability = on.skills.availability

    def known(skill_id: SkillId) -> object:
        found = availability(skill_id)
        if skill_id != SKILL or found.info is None:
            return found
        return replace(found, info=replace(found.info, max_concurrency=limit))

    on.skills.availability = known  # type: ignore[method-assign,assignment]


async def test_a_limit_costs_no_round_trip_a_step() -> None:
    """One engine takes the whole block once, however many attempts follow."""
    async with stage(replace(BY_SIGNAL, permits_s=60.0)) as on:
        limit_only(on, 3)
        names = [f"s{n}" for n in range(40)]
        work_a_while(on, names)
        run = await on.start(workflow(*limited(*names), name="many"))
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert on.skills.running_max == 3
        assert on.tables.permit_exchanges == 1
        assert not on.queue.held


async def test_skills_without_limit_cost_nothing() -> None:
    """Nobody asks for permits of a skill without limit."""
    async with stage(OFTEN) as on:
        run = await on.start(chain(), {"x": 1})
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert on.tables.permit_exchanges == 0


async def test_permits_go_back_when_nothing_runs() -> None:
    """An engine that no longer uses a skill holds no permits of it, and asks no more."""
    async with stage(OFTEN) as on:
        limit_only(on, 2)
        run = await on.start(workflow(*limited("a", "b", "c")))
        assert await on.ended(run) == [RunStatus.COMPLETED]
        exchange = on.permits.exchange

        async def ringing(engine: EngineNo, turn: int, claims: Sequence[PermitClaim]) -> Sequence[PermitGrant]:
            on.bell.ring()
            return await exchange(engine, turn, claims)

        on.permits.exchange = ringing  # type: ignore[method-assign]
        await on.bell.until(lambda: all(row.held == 0 for row in on.tables.permits[SKILL].values()))
        await settle_down()
        assert not on.scheduler._gates._gates


async def test_a_backlog_takes_no_slots() -> None:
    """Steps that a limit keeps waiting keep no steps of other skills from running, up to a bound."""
    for backlog_max, is_starved in ((10_000, False), (3, True)):
        async with stage(replace(OFTEN, attempts_max=2, backlog_max=backlog_max)) as on:
            limit_only(on, 1)
            on.skills.gates = {f"s{n}": anyio.Event() for n in range(20)}
            await on.start(workflow(*limited(*on.skills.gates), name="backlog"))
            await on.bell.until(lambda: on.skills.running == 1 and on.scheduler.attempts_in_flight >= 5)
            other = await on.start(chain(), {"x": 1})
            if is_starved:
                await settle_down()
                assert not on.skills.called("a")
                assert on.scheduler.attempts_in_flight == 5
            else:
                assert await on.ended(other) == [RunStatus.COMPLETED]
                await on.bell.until(lambda: on.scheduler.attempts_in_flight == 20)


async def test_attempts_that_stop_waiting_do_not_overfill_the_engine() -> None:
    """Attempts that only wait for the table take slots: when permits come at once no more run than there are slots."""
    async with stage(replace(OFTEN, attempts_max=4)) as on:
        limit_only(on, 100)
        names = [f"s{n}" for n in range(30)]
        work_a_while(on, names)
        exchange, asked, answer = on.permits.exchange, anyio.Event(), anyio.Event()

        async def slow(engine: EngineNo, turn: int, claims: Sequence[PermitClaim]) -> Sequence[PermitGrant]:
            asked.set()
            await answer.wait()
            return await exchange(engine, turn, claims)

        on.permits.exchange = slow  # type: ignore[method-assign]
        run = await on.start(workflow(*limited(*names), name="wide"))
        with anyio.fail_after(10):
            await asked.wait()
        await settle_down()
        assert on.scheduler.attempts_in_flight == 4
        answer.set()
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert on.skills.running_max == 4


async def test_cancel_while_waiting_frees_the_place() -> None:
    """A run that is cancelled while its attempts wait leaves the permit to those behind it."""
    async with stage(replace(OFTEN, permits_s=60.0)) as on:
        limit_only(on, 1)
        gate = on.skills.hold("first")
        first = await on.start(workflow(*limited("first"), name="first"))
        await on.bell.until(lambda: on.skills.running == 1)
        cancelled = await on.start(workflow(*limited("x", "y"), name="cancelled"))
        await on.bell.until(lambda: on.scheduler.attempts_in_flight == 3)
        last = await on.start(workflow(*limited("last"), name="last"))
        await on.bell.until(lambda: on.scheduler.attempts_in_flight == 4)
        assert await on.store.cancel(TENANT, on.ids[cancelled], "ann", "")
        on.scheduler.cancel_attempts([cancelled])
        gate.set()
        assert await on.ended(first, last) == [RunStatus.COMPLETED] * 2
        assert not on.skills.called("x") and not on.skills.called("y")


async def test_whoever_leaves_passes_the_permit_on() -> None:
    """An attempt that was given a permit and is cancelled before it starts does not keep it; nor one that waits."""
    gate = SkillGate(SKILL, 1)
    lease = [Lease(RunKey(1), StepNo(n), 1, 1, 0) for n in range(5)]
    first = gate.enter(lease[0], 0.0)
    claim = gate.claim(0.0)
    gate.granted(claim, PermitGrant(skill_id=SKILL, held=1, target=1))
    assert first is not None and first.admitted.is_set()
    admitted, gone, last = (gate.enter(lease[n], 0.0) for n in (1, 2, 3))
    assert admitted is not None and gone is not None and last is not None
    gate.leave(gone)
    gate.leave(first)
    assert admitted.admitted.is_set() and not last.admitted.is_set()
    gate.leave(admitted)
    assert last.admitted.is_set() and not gone.admitted.is_set()
    gate.leave(last)
    assert gate.enter(lease[4], 0.0) is None


async def test_nothing_is_given_back_that_is_in_use() -> None:
    """A gate that should come down keeps what its attempts use, and gives back as they end, before others go in."""
    gate = SkillGate(SKILL, 3)
    lease = [Lease(RunKey(1), StepNo(n), 1, 1, 0) for n in range(5)]
    waiters = [gate.enter(each, 0.0) for each in lease]
    gate.granted(gate.claim(0.0), PermitGrant(skill_id=SKILL, held=3, target=3))
    claim = gate.claim(0.0)
    assert (claim.wanted, claim.kept) == (3, 3)
    gate.granted(claim, PermitGrant(skill_id=SKILL, held=3, target=1))
    assert gate.claim(0.0).kept == 3 and not gate.is_urgent
    gate.leave(waiters[0])
    assert gate.is_urgent and gate.claim(0.0).kept == 2
    gate.leave(waiters[1])
    assert gate.claim(0.0).kept == 1
    gate.leave(waiters[2])
    assert gate.claim(0.0).kept == 1
    assert waiters[3] is not None and waiters[3].admitted.is_set()


async def test_a_limit_that_rises_or_goes_away_lets_go() -> None:
    """The runner's latest word counts for attempts that wait already."""
    async with stage(OFTEN) as on:
        limit_only(on, 1)
        gates = [on.skills.hold(name) for name in ("a", "b", "c", "d")]
        run = await on.start(workflow(*limited("a", "b", "c", "d")))
        await on.bell.until(lambda: on.skills.running == 1)
        limit_only(on, 2)
        await on.bell.until(lambda: on.skills.running == 2)
        limit_only(on, 0)
        await on.bell.until(lambda: on.skills.running == 4)
        for gate in gates:
            gate.set()
        assert await on.ended(run) == [RunStatus.COMPLETED]


async def test_a_limit_is_waited_for() -> None:
    """While the runner's list has not been read its skills are not called as if they had no limit."""
    async with stage(OFTEN) as on:
        is_known, availability = False, on.skills.availability

        def known(skill_id: SkillId) -> SkillAvailability:
            return replace(availability(skill_id), is_catalogue_known=is_known, info=info if is_known else None)

        info = SkillInfo(skill_id=SKILL, version="1", cache_version="1", max_concurrency=2)
        on.skills.availability = known  # type: ignore[method-assign]
        names = [f"s{n}" for n in range(6)]
        work_a_while(on, names)
        run = await on.start(workflow(*limited(*names), name="early"))
        await on.bell.until(lambda: on.scheduler.attempts_in_flight == 6)
        await settle_down()
        assert not on.skills.calls
        is_known = True
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert on.skills.running_max == 2


async def test_permits_wait_for_the_database() -> None:
    """While the table cannot be reached nothing new starts; when it is back everything goes on."""
    async with stage(OFTEN) as on:
        limit_only(on, 2)
        exchange, tries = on.permits.exchange, 0

        async def refuse(engine: EngineNo, turn: int, claims: Sequence[PermitClaim]) -> Sequence[PermitGrant]:
            nonlocal tries
            tries += 1
            if tries == 1:
                await exchange(engine, turn, claims)  # the reply is lost
            if tries < 4:
                raise AWAY
            return await exchange(engine, turn, claims)

        on.permits.exchange = refuse  # type: ignore[method-assign]
        run = await on.start(workflow(*limited("a", "b", "c")))
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert tries >= 4 and on.skills.running_max <= 2
        assert on.observer.names().count("database_unavailable") == 3


async def test_waiting_long_is_not_overdue() -> None:
    """The database hears of an attempt that waits long, once, and of its start."""
    async with stage(OFTEN) as on:
        limit_only(on, 1)
        gate = on.skills.hold("a")
        run = await on.start(workflow(*limited("a", "b")))
        await on.bell.until(lambda: len(on.queue.held) == 1)
        (lease,) = on.queue.held
        queued = on.tables.queue[run, lease.step]
        assert queued.timeout_ms < 0
        other = on.skills.hold("b")
        gate.set()
        await on.bell.until(lambda: len(on.skills.calls) == 2)
        assert queued.timeout_ms > 0
        other.set()
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert len(on.queue.held) == 1


async def test_an_engine_without_its_lease_starts_nothing() -> None:
    """Frozen or cut off beyond its own lease, an engine starts no attempt on permits that may be others' by now."""
    async with stage(SHORT_LEASE) as on:
        limit_only(on, 1)
        renew, is_cut_off, renewals = on.registry.renew, False, 0

        async def cut_off(engine: EngineNo, lease_s: float) -> bool:
            nonlocal renewals
            if is_cut_off:
                renewals += 1
                on.bell.ring()
                raise AWAY
            return await renew(engine, lease_s)

        async def nothing() -> TakenBack:
            return TakenBack(runs=(), ended=())

        on.registry.renew = cut_off  # type: ignore[method-assign]
        on.registry.reap = nothing  # type: ignore[method-assign]
        gate = on.skills.hold("a")
        run = await on.start(workflow(*limited("a", "b")))
        await on.bell.until(lambda: on.skills.running == 1 and on.scheduler.attempts_in_flight == 2)
        is_cut_off = True
        await on.bell.until(lambda: renewals >= 5)
        gate.set()
        await on.bell.until(lambda: on.skills.running == 0)
        await settle_down()
        assert not on.skills.called("b")
        is_cut_off = False
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert len(on.skills.called("b")) == 1
