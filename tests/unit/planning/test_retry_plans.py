"""Plans of retries: what the retried run finished stays, the rest executes or comes from the cache."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.ids import StepId
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import CacheMode, PlanAction, RunStatus
from runengine_server.planner.planning import PlanRequest
from runengine_server.service.retry_run import retry_message

from .bench import RUN_ONLY, Bench, Done, actions, echo, named, step, workflow

PAYLOAD: JsonObject = {"x": 1, "y": 1}
STEPS = (
    step("plan", trigger=["x"]),
    step("music", "plan"),
    step("art", "plan", cache=RUN_ONLY),
    step("mix", "music", "art"),
    step("side", trigger=["y"], why="change"),
)
KEPT, MISSING = "REUSE UNAFFECTED", "NO_BASE_OUTPUT"


def failed(done: Done, bench: Bench, *lost: str) -> BaseRun:
    """The run as if it had failed before these steps finished; nothing of them is cached."""
    for key in [key for key, entry in bench.cache.items() if entry.producer.run == done.base.run]:
        if key.step_id in lost:
            del bench.cache[key]
    kept = {n: result for n, result in done.base.results.items() if bench.workflow.steps[n].step_id not in lost}
    return replace(done.base, status=RunStatus.FAILED, results=kept)


def retry(bench: Bench, base: BaseRun) -> PlanRequest:
    request = bench.request(base.payload, base=base, mode=base.cache_mode)
    return replace(request, change=base.change, is_retry=True)


def reasons(done: Done, names: Collection[str]) -> dict[str, str]:
    return {name: actions(done.plan)[name] for name in names}


def test_what_was_finished_is_reused() -> None:
    """Completed and skipped steps are the base's; the failed one executes and what follows is known after it."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = failed(bench.start(PAYLOAD), bench, "art", "mix")
    again = bench.carry_out(retry(bench, base))
    assert actions(again.plan) == {
        "plan": KEPT,
        "music": KEPT,
        "art": f"EXECUTE {MISSING}",
        "mix": f"UNKNOWN {MISSING}",
        "side": KEPT,
    }
    assert named(again.plan, "mix").unknown_until == ("art",)
    assert again.plan.seed_step_ids == ()
    assert again.plan.base_run_id == base.run_id
    assert again.executed == {"art", "mix"}
    assert retry_message(again.plan) == "Retry run queued - 2 steps will be executed"


def test_what_the_cache_has_is_reused() -> None:
    """A step another run finished meanwhile is reused; nothing may be left to execute."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = failed(bench.start(PAYLOAD), bench, "mix")
    bench.start(PAYLOAD)
    plan = bench.plan(retry(bench, base))
    assert actions(plan)["mix"] == "REUSE CACHED"
    assert retry_message(plan) == "Retry run completed - 0 steps will be executed"


def test_a_changed_build_does_not_repeat_what_was_finished() -> None:
    """Steps the retried run finished are reused whatever their skills declare now."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = failed(bench.start(PAYLOAD), bench, "mix")
    bench.versions.update(plan="2", music="2", side="2")
    assert set(reasons(bench.carry_out(retry(bench, base)), ("plan", "music", "art", "side")).values()) == {KEPT}


@pytest.mark.parametrize("mode", CacheMode)
def test_the_mode_goes_on(mode: CacheMode) -> None:
    """What is left of a run is done in its mode: refreshed where it was to be, never read where it was not to be."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = failed(bench.start(PAYLOAD, mode=mode), bench, "music", "mix")
    bench.start(PAYLOAD)  # everything is cached now
    plan = actions(bench.plan(retry(bench, base)))
    expected = {
        CacheMode.DEFAULT: ("REUSE CACHED", "REUSE CACHED"),
        CacheMode.READ_ONLY: ("REUSE CACHED", "REUSE CACHED"),
        CacheMode.REFRESH: ("EXECUTE INITIAL", "EXECUTE INITIAL"),
        CacheMode.BYPASS: (f"EXECUTE {MISSING}", f"EXECUTE {MISSING}"),
    }
    assert (plan["music"], plan["mix"]) == expected[mode]
    assert {plan["plan"], plan["art"], plan["side"]} == {KEPT}


def test_a_refreshed_update_refreshes_its_seeds_only() -> None:
    """The seeds of a refreshing update that did not finish are refreshed by the retry; what follows is not."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(PAYLOAD).base
    update = bench.start(PAYLOAD, base=base, seeds=["music"], mode=CacheMode.REFRESH)
    again = bench.carry_out(retry(bench, failed(update, bench, "music", "mix")))
    assert reasons(again, ("music", "mix")) == {"music": "EXECUTE SEED", "mix": f"UNKNOWN {MISSING}"}
    assert again.plan.seed_step_ids == ()


def test_a_forced_step_stays_forced_until_it_is_done() -> None:
    """Force holds for a retry where the forced step did not finish, and no longer once it did; the digest tells."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    bench.start(PAYLOAD)
    first = bench.start(PAYLOAD, forced=["music"])
    unfinished = bench.carry_out(retry(bench, failed(first, bench, "music", "mix")))
    assert actions(unfinished.plan)["music"] == "EXECUTE FORCED"
    finished = bench.carry_out(retry(bench, failed(first, bench, "mix")))
    assert actions(finished.plan)["music"] == KEPT
    again = bench.carry_out(retry(bench, failed(unfinished, bench, "music", "mix")))
    assert actions(again.plan)["music"] == "EXECUTE FORCED", "also in a retry of the retry"


def test_a_retry_of_an_update_keeps_its_change() -> None:
    """A retry of an update has its payload and change, widens nothing, and gives what the update would have given."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(PAYLOAD).base
    update = bench.start({"x": 2, "y": 1}, base=base, seeds=["plan"])
    again = bench.carry_out(retry(bench, failed(update, bench, "mix")))
    assert reasons(again, ("plan", "music", "art", "side")) == dict.fromkeys(("plan", "music", "art", "side"), KEPT)
    assert again.outputs == update.outputs
    after = bench.start({"x": 2, "y": 1}, base=again.base, seeds=["music"])
    assert all(planned.action is PlanAction.REUSE or planned.step_id == "side" for planned in after.plan.steps)


def test_a_finished_step_below_a_missing_one_stays() -> None:
    """A step that was reused although something it depends on never finished is not repeated, even in BYPASS."""
    steps = (step("a", trigger=["x"]), step("b", "a", reads=()), step("c", "b"))
    bench = Bench(workflow=workflow(*steps), skill=echo)
    base = bench.start({"x": 1}).base
    update = bench.start({"x": 2}, base=base, seeds=["a"])
    assert actions(update.plan)["b"] == "REUSE INPUT_UNCHANGED"
    lost = replace(failed(update, bench, "a"), cache_mode=CacheMode.BYPASS)
    plan = actions(bench.plan(retry(bench, lost)))
    assert plan == {"a": f"EXECUTE {MISSING}", "b": KEPT, "c": KEPT}
    assert bench.compiled.step_no[StepId("a")] == 0
