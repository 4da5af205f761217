"""The scheduler from lease to commit, over stores in memory: what it does, and what it does when things go wrong."""

from collections.abc import Sequence
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import EngineNo, RunKey, WorkflowDigest
from runengine_server.domain.states import CacheTier, FailurePolicy, RunStatus, StepStatus
from runengine_server.ports.skill_runner import Outcome, SkillCall
from runengine_server.ports.step_queue import Completion, Lease, StepExecuted, Turn

from .stage import BY_SIGNAL, SHORT_LEASE, TENANT, Stage, chain, failed, stage, step, succeeded, workflow

pytestmark = pytest.mark.anyio

AWAY = UnavailableError("DATABASE_UNAVAILABLE", "away")


async def test_a_chain_runs_to_its_end() -> None:
    """Each step runs once, after the one it needs and with its output, and the observer hears of all of it."""
    async with stage() as on:
        run = await on.start(chain(), {"x": 1})
        assert await on.ended(run) == [RunStatus.COMPLETED]
        await on.bell.until(lambda: "run_completed" in on.observer.names())
        assert [call.step_id for call in on.skills.calls] == ["a", "b", "c"]
        assert on.skills.calls[1].input_json == b'{"a":{"in":{"trigger":1},"of":"a"}}'
        told = [name for name in on.observer.names() if name not in ("runs_changed", "cache_miss")]
        assert told == ["run_started", *["step_started", "step_completed"] * 3, "run_completed"]
        assert on.scheduler.attempts_in_flight == 0


async def test_cached_steps_are_not_executed_again() -> None:
    """A second run with equal input executes nothing; the hits are planned, or found at execution."""
    async with stage() as on:
        first = await on.start(chain(), {"x": 1})
        await on.ended(first)
        second = await on.start(chain(), {"x": 1})
        assert await on.ended(second) == [RunStatus.COMPLETED]
        assert len(on.skills.calls) == 3
        assert set(on.statuses(second).values()) == {StepStatus.SKIPPED}


async def test_early_cutoff() -> None:
    """A re-executed step that yields the same output lets its dependents use what the base has."""
    async with stage() as on:
        on.skills.behaviour["a"] = lambda call: succeeded(call, {"same": True})
        base = await on.start(chain(), {"x": 1})
        await on.ended(base)
        update = await on.start(chain(), {"x": 2}, base=base, seeds=["a"])
        assert await on.ended(update) == [RunStatus.COMPLETED]
        assert on.statuses(update) == {
            "a": StepStatus.COMPLETED,
            "b": StepStatus.SKIPPED,
            "c": StepStatus.SKIPPED,
        }
        assert len(on.skills.calls) == 4


async def test_a_reused_step_that_waits_for_an_executed_one_stays_reused() -> None:
    """b needs a but does not read it: reused at once, it must not run again when a has finished."""
    ordered = workflow(step("a", trigger="x"), step("b", "a", reads=()), step("c", "b"), name="ordered")
    async with stage() as on:
        base = await on.start(ordered, {"x": 1})
        await on.ended(base)
        update = await on.start(ordered, {"x": 2}, base=base, seeds=["a"])
        assert await on.ended(update) == [RunStatus.COMPLETED]
        assert on.statuses(update)["b"] is StepStatus.SKIPPED
        assert [call.step_id for call in on.skills.calls[3:]] == ["a"]
        assert "internal_failure" not in on.observer.names()


async def test_a_step_waits_for_what_it_reads_behind_a_reused_one() -> None:
    """c needs only b but reads a too: with b reused and a executing, c waits for a."""
    behind = workflow(step("a", trigger="x"), step("b", "a", reads=()), step("c", "b", reads=["a", "b"]), name="behind")
    async with stage() as on:
        base = await on.start(behind, {"x": 1})
        await on.ended(base)
        gate = on.skills.hold("a")
        update = await on.start(behind, {"x": 2}, base=base, seeds=["a"])
        await on.bell.until(lambda: len(on.skills.called("a")) == 2)
        assert len(on.skills.called("c")) == 1
        gate.set()
        assert await on.ended(update) == [RunStatus.COMPLETED]
        assert "internal_failure" not in on.observer.names()
        assert on.skills.called("c")[1].input_json != on.skills.called("c")[0].input_json


async def test_a_retried_step_gets_its_attempts() -> None:
    """A retryable failure is tried again up to maxAttempts; the run then carries MAX_RETRIES_EXCEEDED."""
    async with stage() as on:
        on.skills.behaviour["a"] = lambda call: failed(retryable=True)
        run = await on.start(workflow(step("a", attempts=3)))
        assert await on.ended(run) == [RunStatus.FAILED]
        assert [call.attempt for call in on.skills.calls] == [1, 2, 3]
        assert [call.fencing_token for call in on.skills.calls] == [1, 2, 3]
        error = on.tables.runs[run].error
        assert error is not None
        assert error.code == "MAX_RETRIES_EXCEEDED"
        await on.bell.until(lambda: len(on.observer.of("run_failed")) == 1)
        assert len(on.observer.of("step_failed")) == 3


@pytest.mark.parametrize("policy", FailurePolicy)
async def test_failing_runs_treat_what_runs_by_policy(policy: FailurePolicy) -> None:
    """FAIL_FAST cancels running attempts at once; FINISH_RUNNING waits for them and keeps what they made."""
    both = workflow(step("bad"), step("good"), step("after", "good"), name="both", policy=policy)
    async with stage() as on:
        gate, trap = on.skills.hold("good"), on.skills.hold("bad")
        on.skills.behaviour["bad"] = lambda call: failed()
        run = await on.start(both)
        await on.bell.until(lambda: len(on.skills.calls) == 2)
        trap.set()
        if policy is FailurePolicy.FAIL_FAST:
            await on.bell.until(lambda: [call.step_id for call in on.skills.abandoned] == ["good"])
        else:
            await on.bell.until(lambda: bool(on.observer.of("step_failed")))
            assert not on.skills.cancelled
            gate.set()
        assert await on.ended(run) == [RunStatus.FAILED]
        ends = {FailurePolicy.FAIL_FAST: StepStatus.CANCELLED, FailurePolicy.FINISH_RUNNING: StepStatus.COMPLETED}
        assert on.statuses(run)["good"] is ends[policy]
        assert on.statuses(run)["after"] is StepStatus.CANCELLED
        await on.bell.until(lambda: on.scheduler.attempts_in_flight == 0)


async def test_a_selector_that_fails_fails_its_step_without_an_attempt() -> None:
    """INPUT_SELECTOR_FAILED ends the step; no skill is called."""
    async with stage() as on:
        run = await on.start(workflow(step("a", trigger="missing", attempts=5)))
        assert await on.ended(run) == [RunStatus.FAILED]
        assert on.error_code(run, 0) == "INPUT_SELECTOR_FAILED"
        assert not on.skills.calls


async def test_an_output_that_is_no_object_is_refused() -> None:
    """OUTPUT_INVALID and OUTPUT_TOO_LARGE fail the step for good."""
    for output, code in ((b"[1]", "OUTPUT_INVALID"), (b'{"x":1e999}', "OUTPUT_INVALID"), (b"{", "OUTPUT_INVALID")):
        async with stage() as on:
            on.skills.behaviour["a"] = lambda call, output=output: replace(succeeded(call), output_json=output)  # type: ignore[misc]
            run = await on.start(workflow(step("a", attempts=3)))
            assert await on.ended(run) == [RunStatus.FAILED]
            assert on.error_code(run, 0) == code
            assert len(on.skills.calls) == 1


# -- the database goes away


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
    async with stage() as on:
        tries = 0

        def refuse() -> None:
            nonlocal tries
            tries += 1
            if tries in (2, 3):  # the first lookup is the plan's
                raise AWAY

        on.cache.before = refuse
        run = await on.start(workflow(step("a")))
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert tries == 4


# -- one bad step does not harm the others


async def test_a_step_that_cannot_be_prepared_fails_alone() -> None:
    """An unexpected error in preparing a batch fails the step that causes it, and only that."""
    async with stage(is_running=False) as on:
        bad = await on.start(workflow(step("a"), name="bad"), announce=False)
        good = await on.start(chain(), {"x": 1}, announce=False)
        del on.workflows.known[WorkflowDigest(workflow(name="bad").digest)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            assert await on.ended(good) == [RunStatus.COMPLETED]
            await on.bell.until(lambda: on.tables.queue[bad, 0].attempt == 2)  # type: ignore[index]
            tasks.cancel_scope.cancel()
        ((what, error),) = on.observer.of("internal_failure")
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
        on.skills.behaviour["bad"] = lambda call: (
            succeeded(call, artifacts=(nasty,)) if call.attempt == 1 else succeeded(call)
        )
        on.queue.before = refuse
        run = await on.start(workflow(step("good"), step("bad"), step("fine"), name="three"))
        await on.bell.until(lambda: len(on.skills.calls) == 3)
        for gate in gates:
            gate.set()
        await on.bell.until(lambda: (run, 1) in on.tables.queue and on.tables.queue[run, 1].attempt == 2)  # type: ignore[index]
        assert on.statuses(run) == {"good": StepStatus.COMPLETED, "fine": StepStatus.COMPLETED}
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
        await on.bell.until(lambda: on.tables.queue[run, 0].attempt == 2)  # type: ignore[index]


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


# -- cancelling


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
        await _settle_down(on)
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


# -- capacity


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
        await _settle_down(on)
        before = on.queue.ticks
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        assert on.queue.ticks == before
        on.scheduler.wake()
        await on.bell.until(lambda: on.queue.ticks > before)
        await _settle_down(on)
        assert on.queue.ticks <= before + 2


async def test_a_full_engine_does_not_spin() -> None:
    """An engine without a free slot makes no turns while more steps are ready."""
    async with stage(replace(BY_SIGNAL, attempts_max=1)) as on:
        gate = on.skills.hold("a")
        run, other = await on.start(chain(), {"x": 1}), await on.start(chain("other"), {"x": 2})
        await on.bell.until(lambda: on.skills.running == 1)
        await _settle_down(on)
        before = on.queue.ticks
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        assert on.queue.ticks == before
        gate.set()
        assert await on.ended(run, other) == [RunStatus.COMPLETED] * 2


# -- the engine's own lease


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

        async def slow(engine: EngineNo) -> Sequence[Lease]:
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
        await _settle_down(on)
        assert len(on.skills.calls) == 1


# -- stopping


async def test_drain_finishes_what_runs_and_leases_nothing() -> None:
    """A draining engine commits what it runs; what becomes ready is left to others."""
    async with stage() as on:
        gate = on.skills.hold("a")
        run = await on.start(chain(), {"x": 1})
        await on.bell.until(lambda: len(on.skills.calls) == 1)
        await on.scheduler.drain()
        gate.set()
        await on.bell.until(lambda: on.statuses(run) == {"a": StepStatus.COMPLETED})
        await _settle_down(on)
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


async def test_hits_say_where_they_come_from() -> None:
    """A hit found at execution is recorded with tier, source and age."""
    two = workflow(step("a", trigger="x"), step("b", "a"), name="two")
    async with stage() as on:
        on.skills.behaviour["a"] = lambda call: succeeded(call, {"same": True})
        first = await on.start(two, {"x": 1})
        await on.ended(first)
        second = await on.start(two, {"x": 2})
        await on.ended(second)
        decision = on.tables.results[second, 1].decision  # type: ignore[index]
        assert decision is not None
        assert (decision.tier, decision.source_run_id, decision.source_step_id) == (
            CacheTier.COLD,
            on.ids[first],
            "b",
        )
        assert decision.age_s is not None
        assert decision.age_s >= 0


async def _settle_down(on: Stage) -> None:
    """Let every task run until it waits for something that only time or a test brings."""
    for _ in range(50):
        await anyio.lowlevel.checkpoint()
