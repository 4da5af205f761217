"""What the scheduler makes of lost replies, of runs that end elsewhere or unheard, and of runs that are failing."""

from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import EngineNo, RunKey, SkillId, StepNo
from runengine_server.domain.states import RunStatus, StepStatus
from runengine_server.domain.workflow import StepDefinition
from runengine_server.ports.skill_runner import Outcome, SkillCall
from runengine_server.ports.step_queue import StepFailed, TakenBack, Turn

from .doubles import failed, succeeded
from .stage import BY_SIGNAL, SHORT_LEASE, Stage, chain, settle_down, stage, step, workflow

pytestmark = pytest.mark.anyio

AWAY = UnavailableError("DATABASE_UNAVAILABLE", "away")
OFTEN = replace(BY_SIGNAL, permits_s=0.01)


def lose_replies(on: Stage, is_lost: Callable[[Turn], bool]) -> list[Turn]:
    """Replies to turns that were committed do not arrive; returns those turns."""
    lost: list[Turn] = []

    def drop(turn: Turn) -> None:
        if is_lost(turn):
            lost.append(turn)
            raise AWAY

    on.queue.after = drop
    return lost


def of_one_skill(*names: str) -> list[StepDefinition]:
    """Steps of one skill."""
    return [replace(step(name, is_cached=False), skill_id=SkillId("skill.one")) for name in names]


async def test_own_success_is_recognised() -> None:
    """A result whose turn's reply was lost is told, cached and counted as if it had come; so is the run's end."""
    async with stage() as on:
        lost = lose_replies(on, lambda turn: any(turn.accepted))
        run = await on.start(chain(), {"x": 1})
        assert await on.ended(run) == [RunStatus.COMPLETED]
        await on.bell.until(lambda: "run_completed" in on.observer.names())
        assert len(lost) == 3, "every committing turn lost its reply"
        assert [call.step_id for call in on.skills.calls] == ["a", "b", "c"]
        assert [step_id for _, step_id, *_ in on.observer.of("step_completed")] == ["a", "b", "c"]
        assert len(on.observer.of("run_completed")) == 1
        on.queue.after = None
        again = await on.start(chain(), {"x": 1})
        assert await on.ended(again) == [RunStatus.COMPLETED]
        assert len(on.skills.calls) == 3
        assert not on.scheduler.attempts_in_flight


async def test_own_failure_is_recognised() -> None:
    """A failed attempt and a failed run are told once, although no reply ever said that they were recorded."""
    async with stage() as on:
        lose_replies(on, lambda turn: any(turn.accepted))
        on.skills.behaviour["a"] = lambda call: failed(retryable=True)
        run = await on.start(workflow(step("a", attempts=2)))
        assert await on.ended(run) == [RunStatus.FAILED]
        await on.bell.until(lambda: "run_failed" in on.observer.names())
        assert [attempt for *_, attempt in on.observer.of("step_failed")] == [1, 2]
        assert on.observer.of("run_failed") == [(on.ids[run], "a", "MAX_RETRIES_EXCEEDED")]


async def test_a_result_in_doubt_when_the_engine_stops_is_told() -> None:
    """An engine that is stopped while it waits for a reply asks once more, and tells what it had done."""
    async with stage(is_running=False) as on:
        committed = anyio.Event()

        async def hang(turn: Turn) -> None:
            if any(turn.accepted) and not committed.is_set():
                committed.set()
                await anyio.sleep_forever()

        on.queue.after = hang
        run = await on.start(workflow(step("a")), announce=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            with anyio.fail_after(10):
                await committed.wait()
            tasks.cancel_scope.cancel()
        assert on.statuses(run) == {"a": StepStatus.COMPLETED}
        assert len(on.observer.of("step_completed")) == len(on.observer.of("run_completed")) == 1


async def test_runs_that_end_by_the_reaper_are_told() -> None:
    """A run that fails because whoever ran its step was lost too often is told once, by the engine that found out."""
    async with stage(SHORT_LEASE, is_running=False) as on:
        run = await on.start(workflow(step("a")), announce=False)
        dead = await on.registry.register("dead", "", 60.0)
        (lease,) = (await on.queue.tick(dead, [], 10)).leases
        on.tables.queue[run, lease.step].lease_losses = 5
        await on.registry.renew(dead, -1.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            await on.bell.until(lambda: "run_failed" in on.observer.names())
            tasks.cancel_scope.cancel()
        assert on.observer.of("run_failed") == [(on.ids[run], "a", "LEASE_LOST_REPEATEDLY")]
        assert on.observer.of("runs_stopped") == [([run],)]


async def test_runs_that_end_while_the_database_goes_away_are_told_later() -> None:
    """An end that cannot be named, for the run's facts cannot be read, is told when they can."""
    async with stage(SHORT_LEASE, is_running=False) as on:
        run = await on.start(workflow(step("a")), announce=False, deadline_s=0.001)
        facts, tries = on.store.facts, 0

        async def away(runs: list[RunKey]) -> object:
            nonlocal tries
            tries += 1
            if tries <= 2:
                raise AWAY
            return await facts(runs)

        on.store.facts = away  # type: ignore[method-assign,assignment]
        on.queue.before = lambda completions: anyio.sleep_forever()  # nothing but the reaper works
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            await on.bell.until(lambda: "run_failed" in on.observer.names())
            await settle_down()
            tasks.cancel_scope.cancel()
        assert on.observer.of("run_failed") == [(on.ids[run], "", "RUN_DEADLINE_EXCEEDED")]


async def test_a_run_that_the_engine_fails_by_itself_is_told() -> None:
    """A run whose step fails for an error of the engine's own is told like any other."""

    def explode(call: SkillCall) -> Outcome:
        raise RuntimeError("bug")

    async with stage() as on:
        on.skills.behaviour["a"] = explode
        run = await on.start(workflow(step("a")))
        assert await on.ended(run) == [RunStatus.FAILED]
        await on.bell.until(lambda: "run_failed" in on.observer.names())
        assert on.observer.of("run_failed") == [(on.ids[run], "a", "INTERNAL")]


async def test_an_engine_without_its_lease_starts_nothing() -> None:
    """Cut off beyond its own lease an engine starts no attempt, of no skill; what runs goes on, and is committed."""
    async with stage(SHORT_LEASE) as on:
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

        prepared, go_on = anyio.Event(), anyio.Event()

        async def wait() -> None:
            if is_waiting:
                prepared.set()
                await go_on.wait()

        is_waiting = False
        on.registry.renew = cut_off  # type: ignore[method-assign]
        on.registry.reap = nothing  # type: ignore[method-assign]
        on.cache.before = wait
        gate = on.skills.hold("paid")
        paid = await on.start(workflow(step("paid"), name="paid"))
        await on.bell.until(lambda: on.skills.running == 1)
        late = await on.start(workflow(step("late"), name="late"), announce=False)
        is_waiting = True
        on.scheduler.wake()
        with anyio.fail_after(10):
            await prepared.wait()
        is_cut_off = True
        await on.bell.until(lambda: renewals >= 5)
        go_on.set()
        gate.set()
        assert await on.ended(paid) == [RunStatus.COMPLETED]
        await settle_down()
        assert not on.skills.called("late") and not on.skills.cancelled
        is_cut_off = False
        assert await on.ended(late) == [RunStatus.COMPLETED]
        assert len(on.skills.called("late")) == 1


async def test_what_waits_does_not_begin_in_a_failing_run() -> None:
    """When a step has failed for good attempts that wait for a slot never call their skill; what runs may finish."""
    async with stage(OFTEN) as on:
        on.skills.max_concurrency = 2
        bad, paid = on.skills.hold("bad"), on.skills.hold("paid")
        on.skills.behaviour["bad"] = lambda call: failed()
        run = await on.start(workflow(*of_one_skill("bad", "paid", "waits", "too")))
        await on.bell.until(lambda: on.skills.running == 2 and on.scheduler.attempts_in_flight == 4)
        bad.set()
        await on.bell.until(lambda: on.scheduler.attempts_in_flight == 1)
        assert on.statuses(run) == {
            "bad": StepStatus.FAILED,
            "waits": StepStatus.CANCELLED,
            "too": StepStatus.CANCELLED,
        }
        paid.set()
        assert await on.ended(run) == [RunStatus.FAILED]
        assert on.statuses(run)["paid"] is StepStatus.COMPLETED
        assert {call.step_id for call in on.skills.calls} == {"bad", "paid"}
        await on.bell.until(lambda: "run_failed" in on.observer.names())
        assert not on.skills.cancelled and not on.skills.abandoned


@pytest.mark.parametrize("permits_s", [0.01, 60.0])
async def test_what_waits_here_is_given_up_when_the_run_fails_elsewhere(permits_s: float) -> None:
    """An engine that holds waiting attempts of a run which failed on another engine hands them back by itself."""
    async with stage(replace(SHORT_LEASE, permits_s=permits_s), is_running=False) as on:
        other = await on.registry.register("other", "", 60.0)
        run = await on.start(workflow(*of_one_skill("bad", "paid", "waits")), announce=False)
        (bad,) = (await on.queue.tick(other, [], 1)).leases
        on.skills.max_concurrency = 1
        gates = {name: on.skills.hold(name) for name in ("paid", "waits")}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            await on.bell.until(lambda: on.skills.running == 1 and on.scheduler.attempts_in_flight == 2)
            failure = Failure(code="SKILL_FAILED", message="no")
            done = StepFailed(lease=bad, failure=failure, run_failure=failure, is_attempted=True)
            assert list((await on.queue.tick(other, [done], 0)).accepted) == [True]
            await on.bell.until(lambda: on.scheduler.attempts_in_flight == 1)
            for gate in gates.values():
                gate.set()
            assert await on.ended(run) == [RunStatus.FAILED]
            await on.bell.until(lambda: "run_failed" in on.observer.names())
            tasks.cancel_scope.cancel()
        assert len(on.skills.calls) == 1
        assert sorted(on.statuses(run).values()) == [StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.CANCELLED]


async def test_a_failed_attempt_leaves_no_artifacts() -> None:
    """What an attempt published that failed in the end is dropped; what others of the run published stays readable."""
    made = ProducedArtifact(media_type="x", uri="y", content_hash="ab" * 32, size_bytes=1, filename="made")
    async with stage() as on:
        on.skills.behaviour["good"] = lambda call: succeeded(call, artifacts=(made,))
        on.skills.behaviour["bad"] = lambda call: replace(succeeded(call, artifacts=(made,)), output_json=b"[]")
        run = await on.start(workflow(step("good"), step("bad", "good", attempts=2)))
        assert await on.ended(run) == [RunStatus.FAILED]
        assert on.statuses(run) == {"good": StepStatus.COMPLETED, "bad": StepStatus.FAILED}
        assert {place: len(published) for place, published in on.tables.artifacts.items()} == {(run, 0): 1}
        assert (await on.store.outputs([(run, StepNo(0))]))[run, StepNo(0)].artifacts


async def test_an_attempt_that_was_taken_over_is_told_whole() -> None:
    """The log's duration of a step counts from its attempt's first lease, whichever engine had that."""
    async with stage(is_running=False) as on:
        run = await on.start(workflow(step("a")), announce=False)
        other = await on.registry.register("other", "other", 60.0)
        assert len((await on.queue.tick(other, [], 1)).leases) == 1
        queued = on.tables.queue[run, StepNo(0)]
        assert queued.begun_at is not None
        queued.begun_at -= 5.0
        await on.registry.retire(other)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            assert await on.ended(run) == [RunStatus.COMPLETED]
            await on.bell.until(lambda: "step_completed" in on.observer.names())
            tasks.cancel_scope.cancel()
        ((*_, duration_ms),) = on.observer.of("step_completed")
        assert 5_000 <= duration_ms < 15_000
