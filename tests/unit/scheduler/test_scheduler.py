"""The scheduler from lease to commit, over stores in memory."""

from dataclasses import replace

import pytest

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import SkillId
from runengine_server.domain.states import CacheTier, FailurePolicy, RunStatus, StepStatus

from .doubles import failed, succeeded
from .stage import BY_SIGNAL, chain, stage, step, workflow

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


async def test_what_one_turn_cannot_lease_is_foreseen_by_later_ones() -> None:
    """However few steps a turn leases, all that wait for a step are asked about in turns, never with a look-up."""
    leaves = [step(f"leaf{number}", "root") for number in range(10)]
    async with stage(replace(BY_SIGNAL, attempts_max=3)) as on:
        run = await on.start(workflow(step("root", trigger="x"), *leaves, name="fan"), {"x": 1})
        planning = on.cache.lookups
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert len(on.skills.calls) == 11
        assert on.cache.lookups == planning


async def test_cached_steps_are_not_executed_again() -> None:
    """A second run with equal input executes nothing; the hits are planned, or found at execution."""
    async with stage() as on:
        first = await on.start(chain(), {"x": 1})
        await on.ended(first)
        second = await on.start(chain(), {"x": 1})
        assert await on.ended(second) == [RunStatus.COMPLETED]
        assert len(on.skills.calls) == 3
        assert set(on.statuses(second).values()) == {StepStatus.SKIPPED}


async def test_a_success_is_filed_under_the_version_that_executed() -> None:
    """While the catalogue lags behind a deployment, an entry belongs to the version that the call reported."""
    single = workflow(step("a", trigger="x"), name="single")
    async with stage() as on:
        on.skills.behaviour["a"] = lambda call: succeeded(call, cache_version="2")
        await on.ended(await on.start(single, {"x": 1}))
        again = await on.start(single, {"x": 1})
        assert await on.ended(again) == [RunStatus.COMPLETED]
        assert on.statuses(again) == {"a": StepStatus.COMPLETED}  # what the catalogue names was never filed
        on.skills.cache_version = "2"
        known = await on.start(single, {"x": 1})
        assert await on.ended(known) == [RunStatus.COMPLETED]
        assert on.statuses(known) == {"a": StepStatus.SKIPPED}
        assert len(on.skills.calls) == 2


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


async def test_what_is_planned_to_be_executed_is() -> None:
    """A skill goes back, after the plan, to the version the base was made with: its step is executed as planned."""
    single = workflow(step("a", trigger="x", is_cached=False), name="single")
    async with stage() as on:
        base = await on.start(single, {"x": 1})
        await on.ended(base)
        on.skills.cache_version = "2"
        update = await on.start(single, {"x": 1}, base=base, seeds=["a"], announce=False)
        on.skills.cache_version = "1"
        on.scheduler.wake()
        assert await on.ended(update) == [RunStatus.COMPLETED]
        assert on.statuses(update) == {"a": StepStatus.COMPLETED}


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
        if policy is FailurePolicy.FINISH_RUNNING:
            del on.skills.behaviour["bad"]
            assert await on.ended(await on.start(both)) == [RunStatus.COMPLETED]
            assert len(on.skills.called("good")) == 1, "what a failing run paid for is cached"


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


async def test_a_skills_limit_is_kept_and_waiting_is_no_attempt_time() -> None:
    """No more attempts of a skill run than its runner asked for; the others hold their lease until a slot is free."""
    async with stage() as on:
        on.skills.max_concurrency = 2
        names = ["a", "b", "c", "d", "e"]
        gates = [on.skills.hold(name) for name in names]
        same = [replace(step(name), skill_id=SkillId("t.same")) for name in names]
        run = await on.start(workflow(*same, name="wide"))
        await on.bell.until(lambda: len(on.skills.calls) == 2 and len(on.queue.held) == 3)
        for gate in gates:
            gate.set()
        assert await on.ended(run) == [RunStatus.COMPLETED]
        assert on.skills.running_max == 2
        assert len(on.skills.calls) == 5
