"""Slots and wake-ups: cancelled attempts make room, every slot is used, nothing spins."""

from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.states import RunStatus
from runengine_server.ports.skill_runner import Outcome, SkillCall

from .doubles import failed
from .stage import BY_SIGNAL, SHORT_LEASE, TENANT, chain, settle_down, stage, step, workflow

pytestmark = pytest.mark.anyio

AWAY = UnavailableError("DATABASE_UNAVAILABLE", "away")


async def test_a_cancelled_run_stops_its_attempts() -> None:
    """After the hint the attempt is cancelled, its runner told, and its slot free."""
    async with stage() as on:
        on.skills.hold("a")
        run = await on.start(chain(), {"x": 1})
        await on.bell.until(lambda: len(on.skills.calls) == 1)
        assert await on.store.cancel(TENANT, on.ids[run], "ann", "")
        on.scheduler.cancel_attempts([run])
        await on.bell.until(lambda: len(on.skills.cancelled) == 1 and len(on.skills.abandoned) == 1)
        assert on.scheduler.attempts_in_flight == 0


async def test_a_cancelled_run_is_noticed_without_a_hint() -> None:
    """Without the hint the attempt is cancelled when the engine looks after its lease."""
    async with stage(SHORT_LEASE) as on:
        on.skills.hold("a")
        run = await on.start(chain(), {"x": 1})
        await on.bell.until(lambda: len(on.skills.calls) == 1)
        assert await on.store.cancel(TENANT, on.ids[run], "ann", "")
        await on.bell.until(lambda: len(on.skills.cancelled) == 1)


async def test_a_run_cancelled_while_it_is_prepared_starts_nothing() -> None:
    """A hint that comes between lease and call is not lost."""
    async with stage() as on:
        gate, asked = anyio.Event(), anyio.Event()
        run = await on.start(workflow(step("a")), announce=False)

        async def wait() -> None:
            asked.set()
            await gate.wait()

        on.cache.before = wait
        on.scheduler.wake()
        with anyio.fail_after(10):
            await asked.wait()
        assert await on.store.cancel(TENANT, on.ids[run], "ann", "")
        on.scheduler.cancel_attempts([run])
        gate.set()
        other = await on.start(chain(), {"x": 1})
        await on.ended(other)
        assert not on.skills.called("a") or on.skills.called("a")[0].run_id == on.ids[other]
        assert on.scheduler.attempts_in_flight == 0


async def test_a_cancelled_attempt_makes_room() -> None:
    """The slot of a cancelled attempt is used at once."""
    async with stage(replace(BY_SIGNAL, attempts_max=1)) as on:
        on.skills.hold("held")
        run = await on.start(workflow(step("held"), name="held"))
        await on.bell.until(lambda: len(on.skills.calls) == 1)
        other = await on.start(chain(), {"x": 1})
        await settle_down()
        assert await on.store.cancel(TENANT, on.ids[run], "ann", "")
        on.scheduler.cancel_attempts([run])
        assert await on.ended(other) == [RunStatus.COMPLETED]


async def test_a_deadline_cancels_attempts() -> None:
    """A run past its deadline fails, and what runs for it is cancelled; the call was given no more time than that."""
    async with stage(SHORT_LEASE) as on:
        on.skills.hold("a")
        run = await on.start(workflow(step("a")), deadline_s=0.5)
        assert await on.ended(run) == [RunStatus.FAILED]
        await on.bell.until(lambda: len(on.skills.cancelled) == 1)
        assert on.skills.calls[0].timeout_s <= 0.5


async def test_a_deadline_is_no_failure_of_attempts() -> None:
    """An attempt without time because its run is due neither fails nor is tried again: the deadline ends the run."""
    async with stage(SHORT_LEASE) as on:

        async def time_out(call: SkillCall) -> Outcome:
            with anyio.move_on_after(call.timeout_s):
                await anyio.sleep_forever()
            return failed("SKILL_TIMEOUT", retryable=True)

        on.skills.behaviour["once"] = on.skills.behaviour["often"] = time_out
        run = await on.start(workflow(step("once"), step("often", attempts=5)), deadline_s=0.3)
        assert await on.ended(run) == [RunStatus.FAILED]
        error = on.tables.runs[run].error
        assert error is not None and error.code == "RUN_DEADLINE_EXCEEDED"
        assert [on.error_code(run, number) for number in (0, 1)] == ["RUN_CANCELLED"] * 2
        assert len(on.skills.calls) == 2
        await on.bell.until(lambda: on.scheduler.attempts_in_flight == 0)


@pytest.mark.parametrize(("attempts_max", "pipelines"), [(1, 1), (1, 2), (3, 2), (5, 1)])
async def test_capacity_is_respected_and_used(attempts_max: int, pipelines: int) -> None:
    """Never more attempts than allowed; every freed slot is used at once, whichever pipeline frees it."""
    many = workflow(*(step(f"s{n}") for n in range(12)), name="many")
    async with stage(replace(BY_SIGNAL, attempts_max=attempts_max, pipelines=pipelines)) as on:
        gates = {f"s{n}": on.skills.hold(f"s{n}") for n in range(12)}
        run = await on.start(many)
        for finished in range(12):
            begun = min(12, finished + attempts_max)
            await on.bell.until(lambda begun=begun: len(on.skills.calls) == begun)  # type: ignore[misc]
            gates[on.skills.calls[finished].step_id].set()
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert on.skills.running_max == attempts_max


async def test_a_full_engine_takes_more_when_all_finish_together() -> None:
    """A batch that frees every slot leases as many steps in the same turn."""
    many = workflow(*(step(f"s{n}") for n in range(40)), name="many")
    async with stage(replace(BY_SIGNAL, attempts_max=4)) as on:
        run = await on.start(many)
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert on.skills.running_max <= 4


async def test_idle_pipelines_do_not_spin() -> None:
    """With nothing to do no turn is made until somebody rings."""
    async with stage() as on:
        run = await on.start(chain(), {"x": 1})
        await on.ended(run)
        await settle_down()
        before = on.queue.ticks
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        assert on.queue.ticks == before
        on.scheduler.wake()
        await on.bell.until(lambda: on.queue.ticks > before)
        await settle_down()
        assert on.queue.ticks <= before + 2


async def test_a_full_engine_does_not_spin() -> None:
    """An engine without a free slot makes no turns while more steps are ready."""
    async with stage(replace(BY_SIGNAL, attempts_max=1)) as on:
        gate = on.skills.hold("a")
        run, other = await on.start(chain(), {"x": 1}), await on.start(chain("other"), {"x": 2})
        await on.bell.until(lambda: on.skills.running == 1)
        await settle_down()
        before = on.queue.ticks
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        assert on.queue.ticks == before
        gate.set()
        assert await on.ended(run, other) == [RunStatus.COMPLETED] * 2
