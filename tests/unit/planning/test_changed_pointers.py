"""Which places of a step's input a plan names as changed, and when it names none."""

from dataclasses import replace

import pytest

from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.states import CacheMode, PlanAction
from runengine_server.planner.base_inputs import POINTER_CHARS_MAX, POINTERS_MAX

from .bench import DISABLED, Bench, actions, constant, echo, named, step, workflow

BEFORE: JsonObject = {"x": 1, "y": {"a": 1, "b": [1, 2]}}
AFTER: JsonObject = {"x": 2, "y": {"a": 1, "b": [1, 3]}}

STEPS = (
    step("plan", trigger=["x"]),
    step("music", "plan", trigger=["x"]),
    step("side", trigger=["y"]),
)


def pointers(plan: RebuildPlan) -> dict[str, tuple[str, ...]]:
    return {planned.step_id: planned.changed_pointers for planned in plan.steps if planned.changed_pointers}


def test_a_seed_names_where_its_input_changed() -> None:
    """An affected step whose input is known now names the innermost places that differ from the base's input."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    plan = bench.plan(bench.request(AFTER, base=base, seeds=["plan", "side"]))
    assert pointers(plan) == {"plan": ("/t_x",), "side": ("/t_y/b/1",)}
    assert named(plan, "music").action is PlanAction.UNKNOWN, "what it will read is not known, so neither is its input"


def test_an_unchanged_input_has_no_changes() -> None:
    """A step whose input is the base's, and every step of an initial run, names nothing."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    first = bench.start(BEFORE)
    assert pointers(first.plan) == {}
    assert pointers(bench.plan(bench.request(BEFORE, base=first.base, seeds=["plan"]))) == {}


def test_an_output_that_changed_is_named() -> None:
    """Where the input differs because another run's output is read now, the place of that output is named."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    bench.start(AFTER)
    plan = bench.plan(bench.request(AFTER, base=base, seeds=["plan"]))
    assert actions(plan)["music"] == "REUSE CACHED"
    assert pointers(plan)["music"] == ("/of_plan/hash", "/t_x")


@pytest.mark.parametrize("mode", [CacheMode.REFRESH, CacheMode.BYPASS])
def test_a_step_that_executes_anyway_names_its_changes_too(mode: CacheMode) -> None:
    """Also a step that may reuse nothing says how its input differs, where that is known."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    plan = bench.plan(bench.request(AFTER, base=base, seeds=["plan"], mode=mode))
    assert named(plan, "plan").changed_pointers == ("/t_x",)
    forced = bench.plan(bench.request(AFTER, base=base, seeds=["plan"], forced=["side"]))
    assert named(forced, "side").changed_pointers == ("/t_y/b/1",)


def test_an_uncached_step_names_its_changes() -> None:
    """Without a cache policy the base is still there to compare with."""
    bench = Bench(workflow=workflow(step("a", trigger=["x"], cache=DISABLED)), skill=echo)
    base = bench.start(BEFORE).base
    assert pointers(bench.plan(bench.request(AFTER, base=base, seeds=["a"]))) == {"a": ("/t_x",)}


def test_a_widened_step_names_the_places() -> None:
    """WIDENED always says which places of the input changed, whatever the run's id is."""
    bench = Bench(workflow=workflow(step("a"), step("b", trigger=["y"], who="run.id")), skill=echo)
    base = bench.start(BEFORE).base
    plan = bench.plan(bench.request(AFTER, base=base, seeds=["a"]))
    assert actions(plan)["b"] == "EXECUTE WIDENED"
    assert pointers(plan) == {"b": ("/t_y/b/1",)}


def test_reading_the_change_names_where_it_is_read() -> None:
    """A step widened by the change request itself names the place that holds it."""
    bench = Bench(workflow=workflow(step("a", trigger=["x"]), step("b", why="change")), skill=echo)
    base = bench.start(BEFORE).base
    plan = bench.plan(bench.request(AFTER, base=base, seeds=["a"]))
    assert pointers(plan) == {"a": ("/t_x",), "b": ("/why",)}


def test_a_widened_step_that_is_cached_stays_visible() -> None:
    """A step outside the declared impact whose new input the cache knows is reused, and still says WIDENED."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    bench.start(AFTER)
    done = bench.start(AFTER, base=base, seeds=["plan"])
    assert actions(done.plan)["side"] == "REUSE WIDENED"
    assert named(done.plan, "side").changed_pointers == ("/t_y/b/1",)
    assert not done.executed


def test_a_widened_step_whose_selector_fails_names_the_leaf() -> None:
    """A path that the change removed is named as the place that changed."""
    bench = Bench(workflow=workflow(step("a"), step("b", trigger=["y"])), skill=constant)
    base = bench.start(BEFORE).base
    plan = bench.plan(bench.request({"x": 1}, base=base, seeds=["a"]))
    assert actions(plan)["b"] == "EXECUTE WIDENED"
    assert pointers(plan) == {"b": ("/t_y",)}


def test_a_widened_step_whose_old_input_is_gone_names_what_it_reads() -> None:
    """When the base's input cannot be derived any more, the places that read what changed are named instead."""
    bench = Bench(workflow=workflow(step("a"), step("b", "a", trigger=["x", "y"])), skill=echo)
    base = bench.start(BEFORE).base
    number = bench.compiled.step_no[bench.workflow.steps[1].step_id]
    forgotten = replace(base, results={**base.results, number: replace(base.results[number], input_hash="00" * 32)})
    plan = bench.plan(bench.request({**BEFORE, "x": 2}, base=forgotten, seeds=["a"]))
    assert actions(plan)["b"] == "EXECUTE DOWNSTREAM"
    assert pointers(plan) == {}, "a guess is made only where something must be named"
    alone = Bench(workflow=workflow(step("a"), step("b", trigger=["x", "y"])), skill=echo)
    base = alone.start(BEFORE).base
    forgotten = replace(base, results={**base.results, number: replace(base.results[number], input_hash="00" * 32)})
    plan = alone.plan(alone.request({**BEFORE, "x": 2}, base=forgotten, seeds=["a"]))
    assert pointers(plan) == {"b": ("/t_x",)}


def test_pointers_are_few_and_short() -> None:
    """At most 16 places a step; a pointer longer than a person reads is cut to a place above."""
    bench = Bench(workflow=workflow(step("a", everything="trigger")), skill=constant)
    many: JsonObject = {f"k{n:03}": 1 for n in range(100)}
    base = bench.start(many).base
    plan = bench.plan(bench.request(dict.fromkeys(many, 2), base=base, seeds=["a"]))
    assert len(named(plan, "a").changed_pointers) == POINTERS_MAX
    deep: JsonObject = {"top": {"k" * 2 * POINTER_CHARS_MAX: 1}}
    base = bench.start(deep).base
    plan = bench.plan(bench.request({"top": {"k" * 2 * POINTER_CHARS_MAX: 2}}, base=base, seeds=["a"]))
    assert pointers(plan) == {"a": ("/everything/top",)}


def test_pointers_are_no_part_of_the_digest() -> None:
    """The digest covers actions, reasons and producers only: what SPEC lists."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    plan = bench.plan(bench.request(AFTER, base=base, seeds=["plan", "side"]))
    lost = {number: replace(result, input_hash="00" * 32) for number, result in base.results.items()}
    other = bench.plan(bench.request(AFTER, base=replace(base, results=lost), seeds=["plan", "side"]))
    assert len(pointers(plan)) == 2
    assert pointers(other) == {}
    assert plan.digest == other.digest
