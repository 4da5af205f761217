"""Runs are taken up with their creation where there is room; whatever goes wrong there costs time, never a run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from runengine_server.domain.cache import CacheMiss
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import RunKey, WorkflowDigest
from runengine_server.domain.states import RunStatus
from runengine_server.ports.run_store import CreatedRun, EarlierAnswer, Intake, NewRun, Outdated
from runengine_server.ports.step_queue import Lease
from runengine_server.scheduler.preparation import Execute, Foreseen
from runengine_server.scheduler.settings import SchedulerSettings

from .stage import SHORT_LEASE, TENANT, Stage, chain, settle_down, stage, step, workflow

pytestmark = pytest.mark.anyio

WIDE = workflow(step("a"), step("b"), step("c"), name="wide")


@asynccontextmanager
async def idle(settings: SchedulerSettings | None = None) -> AsyncIterator[Stage]:
    """A stage whose scheduler has looked at the queue and waits."""
    async with stage(settings) if settings is not None else stage() as on:
        await on.bell.until(lambda: on.queue.ticks > 0)
        await settle_down()
        yield on


async def test_a_run_begins_without_a_turn() -> None:
    """Its first steps call their skills as soon as it is created; the next turn commits what they returned."""
    async with idle() as on:
        leased_in_turns: list[Lease] = []
        on.queue.after = lambda turn: leased_in_turns.extend(turn.leases)
        run = await on.start(WIDE)
        assert on.scheduler.attempts_in_flight == 3
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert len(on.skills.calls) == 3
        assert not leased_in_turns


async def test_a_run_that_is_cancelled_at_once_calls_nothing() -> None:
    """Its attempts were started but have not come to run: no skill hears of them."""
    async with idle() as on:
        run = await on.start(WIDE)
        assert on.scheduler.attempts_in_flight == 3
        assert await on.store.cancel(TENANT, on.ids[run], "ann", "")
        on.scheduler.cancel_attempts([run])
        await settle_down()
        assert on.scheduler.attempts_in_flight == 0
        assert not on.skills.calls


async def test_what_does_not_fit_waits_in_the_queue() -> None:
    """Where not all first steps have a slot none is leased with the run; turns lease them as slots come free."""
    async with idle(SchedulerSettings(poll_s=60.0, lease_s=60.0, attempts_max=2)) as on:
        run = await on.start(WIDE)
        assert [queued.epoch for queued in on.tables.queue.values()] == [0, 0, 0]
        assert await on.ended(run) == [RunStatus.COMPLETED]


async def test_a_busy_engine_leaves_runs_to_others() -> None:
    """More than half of its slots are taken: what is new stays in the queue, and other engines hear of it."""
    async with idle(SchedulerSettings(poll_s=60.0, lease_s=60.0, attempts_max=5)) as on:
        gates = [on.skills.hold(name) for name in ("a", "b", "c")]
        busy = await on.start(WIDE)
        await on.bell.until(lambda: len(on.skills.calls) == 3)
        assert "work_left" not in on.observer.names()
        other = await on.start(chain(), {"x": 1})
        assert "work_left" in on.observer.names()
        for gate in gates:
            gate.set()
        assert await on.ended(busy, other) == [RunStatus.COMPLETED] * 2


async def test_a_run_whose_caller_is_gone_is_taken_up() -> None:
    """The store tells the scheduler, not the caller: one that gave up after the commit leaves no lease behind."""
    async with idle() as on:
        create = on.store.create
        committed = anyio.Event()

        async def create_and_linger(new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
            await create(new, intake)
            committed.set()
            await anyio.sleep_forever()
            raise AssertionError

        on.store.create = create_and_linger  # type: ignore[method-assign]
        async with anyio.create_task_group() as callers:
            callers.start_soon(on.start, WIDE)
            await committed.wait()
            callers.cancel_scope.cancel()
        assert await on.ended(RunKey(1)) == [RunStatus.COMPLETED]


async def test_leases_of_a_lost_reply_are_found() -> None:
    """The run was created with its leases and nobody heard: the reconciler asks what this engine holds, and runs it."""
    async with idle() as on:
        create = on.store.create

        async def create_and_lose(new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
            assert intake is not None and intake.questions
            await create(new, _Unheard(intake))
            raise UnavailableError("DATABASE_UNAVAILABLE", "the reply was lost")

        on.store.create = create_and_lose  # type: ignore[method-assign]
        with pytest.raises(UnavailableError):
            await on.start(WIDE)
        assert await on.ended(RunKey(1)) == [RunStatus.COMPLETED]


async def test_slots_of_a_refused_creation_are_free_again() -> None:
    """What was reserved for a run that is not created is given back."""
    async with idle(SchedulerSettings(poll_s=60.0, lease_s=60.0, attempts_max=6)) as on:
        create = on.store.create

        async def refuse(new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
            raise ValueError("no such run")

        on.store.create = refuse  # type: ignore[method-assign]
        for _ in range(3):
            with pytest.raises(ValueError, match="no such run"):
                await on.start(WIDE)
        on.store.create = create  # type: ignore[method-assign]
        await settle_down()  # a turn looks for those who found no slot meanwhile
        run = await on.start(WIDE)
        assert [queued.epoch for place, queued in on.tables.queue.items() if place[0] == run] == [1, 1, 1]
        assert await on.ended(run) == [RunStatus.COMPLETED]


async def test_slots_that_were_reserved_in_vain_are_used() -> None:
    """Who found no slot while a creation had reserved all gets one as soon as that comes to nothing."""
    async with idle(SchedulerSettings(poll_s=60.0, lease_s=60.0, attempts_max=3)) as on:
        create, inside, decided = on.store.create, anyio.Event(), anyio.Event()

        async def refuse_wide(new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
            if new.workflow_name != "wide":
                return await create(new, intake)
            inside.set()
            await decided.wait()
            return Outdated()

        async def start_in_vain() -> None:
            with pytest.raises(AssertionError):  # of the stage: no run was created
                await on.start(WIDE)

        on.store.create = refuse_wide  # type: ignore[method-assign]
        async with anyio.create_task_group() as callers:
            callers.start_soon(start_in_vain)
            await inside.wait()
            run = await on.start(chain(), {"x": 1})
            await settle_down()
            assert not on.skills.calls
            decided.set()
        assert await on.ended(run) == [RunStatus.COMPLETED]


async def test_what_cannot_be_taken_up_is_found() -> None:
    """A fault of the engine between lease and start holds no slot and loses no run: the reconciler finds the leases."""
    async with idle() as on:
        faults = ["once"]
        preparation = on.scheduler._foresight._preparation
        after_miss = preparation.after_miss

        def fail_once(lease: Lease, foreseen: Foreseen, miss: CacheMiss) -> Execute:
            if faults:
                raise RuntimeError(faults.pop())
            return after_miss(lease, foreseen, miss)

        preparation.after_miss = fail_once  # type: ignore[method-assign]
        run = await on.start(WIDE)
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert "internal_failure" in on.observer.names()
        assert on.scheduler.attempts_in_flight == 0


async def test_a_run_begins_once_in_the_log() -> None:
    """Also where of its first steps one starts at once and another has to be looked up first."""
    async with idle() as on:
        on.skills.hold("a")
        await on.start(workflow(step("a"), name="twin"))
        await on.bell.until(lambda: len(on.skills.calls) == 1)
        both = await on.start(replace(workflow(step("a"), step("b"), name="twin"), digest=WorkflowDigest("ab" * 32)))
        await on.bell.until(lambda: len(on.skills.called("b")) == 1)
        await settle_down()
        assert [run_id for run_id, _ in on.observer.of("run_started")].count(on.ids[both]) == 1


async def test_an_engine_that_lost_its_lease_runs_nothing_of_the_old_one() -> None:
    """Leases granted to the number it had before are others' by now: they take them back, and the run ends."""
    async with idle(SHORT_LEASE) as on:
        create = on.store.create

        async def create_late(new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
            assert intake is not None
            created = await create(new, _Unheard(intake))
            assert isinstance(created, CreatedRun)
            old = intake.engine
            on.tables.engines[old] = 0.0  # its lease ended, and somebody takes its steps back
            await on.registry.reap()
            await on.bell.until(lambda: "engine_lost" in on.observer.names())
            intake.created(created)
            return created

        on.store.create = create_late  # type: ignore[method-assign]
        run = await on.start(WIDE)
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert all(result.lease_losses == 1 for result in on.tables.results.values())


class _Unheard:
    """An intake nobody tells of the run."""

    def __init__(self, intake: Intake) -> None:
        self.engine, self.questions = intake.engine, intake.questions

    def created(self, created: CreatedRun) -> None:
        """The reply is lost, or late."""
