"""What the scheduler does when the database goes away, a step is bad or the engine loses its lease or stops."""

from collections.abc import Sequence
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import EngineNo, RunKey, WorkflowDigest
from runengine_server.domain.states import RunStatus, StepStatus
from runengine_server.ports.skill_runner import Outcome, SkillCall
from runengine_server.ports.step_queue import Completion, Holdings, StepExecuted, Turn

from .doubles import succeeded
from .stage import BY_SIGNAL, SHORT_LEASE, chain, settle_down, stage, step, workflow

pytestmark = pytest.mark.anyio

AWAY = UnavailableError("DATABASE_UNAVAILABLE", "away")


async def test_a_turn_whose_request_was_lost_is_sent_again() -> None:
    """A turn that never reached the database is repeated until it does."""
    async with stage() as on:
        lost = 0

        def refuse(completions: Sequence[Completion]) -> None:
            nonlocal lost
            if completions and lost < 2:
                lost += 1
                raise AWAY

        on.queue.before = refuse
        run = await on.start(chain(), {"x": 1})
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert lost == 2
        assert len(on.skills.calls) == 3
        assert on.observer.names().count("database_unavailable") == 2


async def test_a_turn_whose_reply_was_lost_is_fenced() -> None:
    """A turn that was committed although it looked lost counts once; what it leased is found and taken up."""
    async with stage(SHORT_LEASE) as on:
        lost: list[Turn] = []

        def drop(turn: Turn) -> None:
            if turn.accepted and len(lost) < 2:
                lost.append(turn)
                raise AWAY

        on.queue.after = drop
        run = await on.start(chain(), {"x": 1})
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert len(lost) == 2
        assert all(turn.leases for turn in lost)
        assert [call.step_id for call in on.skills.calls] == ["a", "b", "c"]
        await on.bell.until(lambda: on.scheduler.attempts_in_flight == 0)


async def test_preparation_waits_for_the_database() -> None:
    """Steps that could not be prepared because the database was away are prepared when it is back."""
    async with stage(is_running=False) as on:
        tries = 0

        def refuse() -> None:
            nonlocal tries
            tries += 1
            if tries in (2, 3):  # the first lookup is the plan's
                raise AWAY

        on.cache.before = refuse
        run = await on.start(workflow(step("a")), announce=False)  # so that its turn asks nothing in advance
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            assert await on.ended(run) == [RunStatus.COMPLETED]
            tasks.cancel_scope.cancel()
        assert tries == 4


async def test_a_step_that_cannot_be_prepared_fails_alone() -> None:
    """An unexpected error in preparing a batch fails the step that causes it, and only that."""
    async with stage(is_running=False) as on:
        bad = await on.start(workflow(step("a"), name="bad"), announce=False)
        good = await on.start(chain(), {"x": 1}, announce=False)
        del on.workflows.known[WorkflowDigest(workflow(name="bad").digest)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            assert await on.ended(good) == [RunStatus.COMPLETED]
            assert await on.ended(bad) == [RunStatus.FAILED]
            tasks.cancel_scope.cancel()
        (what, error), *_ = on.observer.of("internal_failure")
        assert what == f"run {bad}, step 0"
        assert isinstance(error, KeyError)


async def test_a_result_that_cannot_be_stored_fails_alone() -> None:
    """A completion the database refuses for what it is fails its step; the rest of its batch is committed."""
    nasty = ProducedArtifact(media_type="x", uri="y", content_hash="ab" * 32, size_bytes=1, filename="a\0b")

    def refuse(completions: Sequence[Completion]) -> None:
        if any(isinstance(done, StepExecuted) and done.artifacts for done in completions):
            raise ValueError("invalid byte sequence")

    async with stage(replace(BY_SIGNAL, pipelines=1)) as on:
        gates = [on.skills.hold(name) for name in ("good", "bad", "fine")]
        on.skills.behaviour["bad"] = lambda call: succeeded(call, artifacts=(nasty,))
        on.queue.before = refuse
        run = await on.start(workflow(step("good"), step("bad"), step("fine"), name="three"))
        await on.bell.until(lambda: len(on.skills.calls) == 3)
        for gate in gates:
            gate.set()
        assert await on.ended(run) == [RunStatus.FAILED]
        assert on.statuses(run) == {
            "good": StepStatus.COMPLETED,
            "bad": StepStatus.FAILED,
            "fine": StepStatus.COMPLETED,
        }
        assert len(on.observer.of("internal_failure")) == 1
        assert not on.scheduler.attempts_in_flight


async def test_a_skill_runner_that_raises_fails_its_step_alone() -> None:
    """An exception out of the runner is an internal failure of that attempt."""

    def explode(call: SkillCall) -> Outcome:
        raise RuntimeError("bug")

    async with stage() as on:
        on.skills.behaviour["bad"] = explode
        run, other = await on.start(workflow(step("bad"))), await on.start(chain(), {"x": 1})
        assert await on.ended(other) == [RunStatus.COMPLETED]
        assert await on.ended(run) == [RunStatus.FAILED]


async def test_leases_of_runs_that_are_gone_hold_no_slot() -> None:
    """A lease whose run no longer exists is let go of."""
    async with stage(replace(BY_SIGNAL, attempts_max=1), is_running=False) as on:
        gone = await on.start(workflow(step("a"), name="gone"), announce=False)
        kept = await on.start(chain(), {"x": 1}, announce=False)
        record, facts = on.tables.runs[gone], on.store.facts

        async def without(runs: Sequence[RunKey]) -> dict[RunKey, object]:
            return {key: fact for key, fact in (await facts(runs)).items() if key != record.key}

        on.store.facts = without  # type: ignore[method-assign,assignment]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            assert await on.ended(kept) == [RunStatus.COMPLETED]
            tasks.cancel_scope.cancel()


async def test_an_engine_that_lost_its_lease_starts_anew() -> None:
    """It cancels what it ran, registers under another number and runs the steps again; the late result is dropped."""
    async with stage(SHORT_LEASE) as on:
        gate = on.skills.hold("a")
        run = await on.start(chain(), {"x": 1})
        await on.bell.until(lambda: len(on.skills.calls) == 1)
        (engine,) = on.tables.engines
        await on.registry.renew(engine, -1.0)
        await on.registry.reap()
        await on.bell.until(lambda: len(on.skills.calls) == 2)
        assert len(on.skills.cancelled) == 1
        assert not on.skills.abandoned  # the runner keeps the call: the same attempt attaches to it
        assert "engine_lost" in on.observer.names()
        gate.set()
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert on.skills.calls[1].idempotency_key == on.skills.calls[0].idempotency_key
        assert on.skills.calls[1].fencing_token > on.skills.calls[0].fencing_token
        assert on.tables.results[run, 0].lease_losses == 1  # type: ignore[index]


async def test_steps_of_a_dead_engine_are_taken_over() -> None:
    """A living engine takes back what a dead one held, and runs it."""
    async with stage(SHORT_LEASE, is_running=False) as on:
        run = await on.start(chain(), {"x": 1}, announce=False)
        dead = await on.registry.register("dead", "", 60.0)
        assert len((await on.queue.tick(dead, [], 10)).leases) == 1
        await on.registry.renew(dead, -1.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            assert await on.ended(run) == [RunStatus.COMPLETED]
            tasks.cancel_scope.cancel()


async def test_a_slow_look_at_its_leases_does_not_run_a_step_twice() -> None:
    """A step that was leased and finished while the engine read what it owns is not taken for a lost one."""
    async with stage(SHORT_LEASE) as on:
        asked, leased, seen, reply = (anyio.Event() for _ in range(4))
        owned = on.queue.inner.owned

        async def slow(engine: EngineNo) -> Holdings:
            if reply.is_set():
                return await owned(engine)
            asked.set()
            await leased.wait()
            found = await owned(engine)
            seen.set()
            await reply.wait()
            return found

        on.queue.inner.owned = slow  # type: ignore[method-assign]
        with anyio.fail_after(10):
            await asked.wait()
        hold = on.skills.hold("a")
        run = await on.start(workflow(step("a", is_cached=False)))
        await on.bell.until(lambda: len(on.skills.calls) == 1)
        leased.set()
        with anyio.fail_after(10):
            await seen.wait()
        hold.set()
        assert await on.ended(run) == [RunStatus.COMPLETED]
        await on.bell.until(lambda: on.scheduler.attempts_in_flight == 0)
        reply.set()
        await settle_down()
        assert len(on.skills.calls) == 1


async def test_drain_finishes_what_runs_and_leases_nothing() -> None:
    """A draining engine commits what it runs; what becomes ready is left to others."""
    async with stage() as on:
        gate = on.skills.hold("a")
        run = await on.start(chain(), {"x": 1})
        await on.bell.until(lambda: len(on.skills.calls) == 1)
        await on.scheduler.drain()
        gate.set()
        await on.bell.until(lambda: on.statuses(run) == {"a": StepStatus.COMPLETED})
        await settle_down()
        assert on.tables.queue[run, 1].engine is None  # type: ignore[index]
        assert len(on.skills.calls) == 1


async def test_stopping_hands_leases_back() -> None:
    """A stopped engine leaves no lease behind, and none of its steps counts as lost."""
    async with stage(is_running=False) as on:
        on.skills.hold("a")
        run = await on.start(chain(), {"x": 1}, announce=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            await on.bell.until(lambda: len(on.skills.calls) == 1)
            tasks.cancel_scope.cancel()
        queued = on.tables.queue[run, 0]  # type: ignore[index]
        assert (queued.engine, queued.attempt, queued.lease_losses) == (None, 1, 0)
        assert not on.tables.engines
        assert len(on.skills.cancelled) == 1
        assert not on.skills.abandoned


async def test_stopping_in_the_middle_of_a_turn_loses_no_result() -> None:
    """A result that is being committed when the engine stops is committed before the leases are handed back."""
    async with stage(is_running=False) as on:
        begun = anyio.Event()

        async def hang() -> None:
            begun.set()
            await anyio.sleep_forever()

        on.queue.before = lambda completions: hang() if completions and not begun.is_set() else None
        run = await on.start(chain(), {"x": 1}, announce=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            with anyio.fail_after(10):
                await begun.wait()
            tasks.cancel_scope.cancel()
        assert on.statuses(run) == {"a": StepStatus.COMPLETED}
        assert on.tables.queue[run, 1].engine is None  # type: ignore[index]


async def test_a_late_run_that_cannot_be_named_stops_nothing() -> None:
    """A deadline is enforced, and the engine works on, also when the run's workflow cannot be loaded for the log."""
    async with stage(SHORT_LEASE) as on:
        gate = on.skills.hold("held")
        late = await on.start(workflow(step("held"), name="held"), deadline_s=0.3)
        await on.bell.until(lambda: len(on.skills.calls) == 1)
        on.workflows.known.clear()
        on.scheduler._intakes._contexts.forget(late)
        assert await on.ended(late) == [RunStatus.FAILED]
        await on.bell.until(lambda: len(on.skills.cancelled) == 1)
        gate.set()
        other = await on.start(chain(), {"x": 1})
        assert await on.ended(other) == [RunStatus.COMPLETED]
