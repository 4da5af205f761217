"""What plan_run says of each step, case by case, and that what then happens is what it said."""

from collections.abc import Sequence

import pytest

from runengine_server.domain.canonical_json import canonical_bytes
from runengine_server.domain.ids import StepId
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import CacheMode, OutputSource, PlanAction
from runengine_server.planner.base_inputs import PAYLOAD_CHANGES_MAX
from runengine_server.planner.estimates import steps_to_estimate, with_estimates
from runengine_server.service.trigger_run import initial_message
from runengine_server.service.trigger_update import update_message

from .bench import DISABLED, RUN_ONLY, Bench, Skill, actions, constant, echo, named, step, to_execute, workflow

EXECUTE_INITIAL, EXECUTE_SEED, EXECUTE_DOWN = "EXECUTE INITIAL", "EXECUTE SEED", "EXECUTE DOWNSTREAM"
UNKNOWN_INITIAL, UNKNOWN_DOWN = "UNKNOWN INITIAL", "UNKNOWN DOWNSTREAM"
UNAFFECTED, UNCHANGED, CACHED = "REUSE UNAFFECTED", "REUSE INPUT_UNCHANGED", "REUSE CACHED"

BEFORE: JsonObject = {"x": 1, "y": 1}
AFTER: JsonObject = {"x": 2, "y": 1}

# plan -> music, art -> mix; side needs nothing
STEPS = (
    step("plan", trigger=["x"]),
    step("music", "plan"),
    step("art", "plan"),
    step("mix", "music", "art"),
    step("side", trigger=["y"]),
)


def test_an_initial_run_executes_roots_and_leaves_the_rest_open() -> None:
    """Without a cache, roots execute and what reads them is unknown until they have finished."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    plan = bench.plan(bench.request(BEFORE))
    assert actions(plan) == {
        "plan": EXECUTE_INITIAL,
        "music": UNKNOWN_INITIAL,
        "art": UNKNOWN_INITIAL,
        "mix": UNKNOWN_INITIAL,
        "side": EXECUTE_INITIAL,
    }
    assert named(plan, "mix").unknown_until == ("music", "art")
    assert named(plan, "plan").unknown_until == named(plan, "plan").caused_by == ()
    assert plan.base_run_id is None
    assert plan.estimate_s is None
    assert initial_message(plan) == "Run queued for execution"


def test_an_initial_run_reuses_what_is_cached() -> None:
    """The same trigger again is cached throughout; the plan binds each step to its producer and says so."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    first = bench.start(BEFORE)
    again = bench.start(BEFORE)
    assert set(actions(again.plan).values()) == {"REUSE CACHED"}
    assert again.executed == frozenset()
    assert again.outputs == first.outputs
    binding = named(again.plan, "mix").binding
    assert binding is not None
    assert (binding.producer_run, binding.producer_run_id, binding.source) == (1, "run-1", OutputSource.CACHE_COLD)
    assert initial_message(again.plan) == "Run completed - 0 steps will be executed"


CASES: dict[str, tuple[Skill, JsonObject, Sequence[str], CacheMode, dict[str, str], set[str]]] = {
    "seed changes": (
        echo,
        AFTER,
        ["plan"],
        CacheMode.DEFAULT,
        {"plan": EXECUTE_SEED, "music": UNKNOWN_DOWN, "art": UNKNOWN_DOWN, "mix": UNKNOWN_DOWN, "side": UNAFFECTED},
        {"plan", "music", "art", "mix"},
    ),
    "early cutoff": (
        constant,
        AFTER,
        ["plan"],
        CacheMode.DEFAULT,
        {"plan": EXECUTE_SEED, "music": UNKNOWN_DOWN, "art": UNKNOWN_DOWN, "mix": UNKNOWN_DOWN, "side": UNAFFECTED},
        {"plan"},
    ),
    "input unchanged": (
        echo,
        BEFORE,
        ["music"],
        CacheMode.DEFAULT,
        {"plan": UNAFFECTED, "music": UNCHANGED, "art": UNAFFECTED, "mix": UNCHANGED, "side": UNAFFECTED},
        set(),
    ),
    "refresh executes the seeds, their downstream goes on as default": (
        echo,
        BEFORE,
        ["music"],
        CacheMode.REFRESH,
        {"plan": UNAFFECTED, "music": EXECUTE_SEED, "art": UNAFFECTED, "mix": UNKNOWN_DOWN, "side": UNAFFECTED},
        {"music"},
    ),
    "bypass executes the whole impact": (
        echo,
        BEFORE,
        ["music"],
        CacheMode.BYPASS,
        {"plan": UNAFFECTED, "music": EXECUTE_SEED, "art": UNAFFECTED, "mix": EXECUTE_DOWN, "side": UNAFFECTED},
        {"music", "mix"},
    ),
    "read only reads": (
        echo,
        BEFORE,
        ["music"],
        CacheMode.READ_ONLY,
        {"plan": UNAFFECTED, "music": UNCHANGED, "art": UNAFFECTED, "mix": UNCHANGED, "side": UNAFFECTED},
        set(),
    ),
    "full rebuild refreshes every step": (
        echo,
        BEFORE,
        ["plan", "music", "art", "mix", "side"],
        CacheMode.REFRESH,
        dict.fromkeys(["plan", "music", "art", "mix", "side"], EXECUTE_SEED),
        {"plan", "music", "art", "mix", "side"},
    ),
    "widened by the payload": (
        echo,
        {"x": 1, "y": 2},
        ["music"],
        CacheMode.DEFAULT,
        {"plan": UNAFFECTED, "music": UNCHANGED, "art": UNAFFECTED, "mix": UNCHANGED, "side": "EXECUTE WIDENED"},
        {"side"},
    ),
    "widened with its downstream": (
        echo,
        AFTER,
        ["art"],
        CacheMode.DEFAULT,
        {
            "plan": "EXECUTE WIDENED",
            "music": UNKNOWN_DOWN,
            "art": "UNKNOWN SEED",
            "mix": UNKNOWN_DOWN,
            "side": UNAFFECTED,
        },
        {"plan", "music", "art", "mix"},
    ),
}


@pytest.mark.parametrize(("skill", "payload", "seeds", "mode", "expected", "executed"), CASES.values(), ids=CASES)
def test_updates(
    skill: Skill,
    payload: JsonObject,
    seeds: Sequence[str],
    mode: CacheMode,
    expected: dict[str, str],
    executed: set[str],
) -> None:
    """Each kind of update is planned and carried out as SPEC says; the message counts what may be executed."""
    bench = Bench(workflow=workflow(*STEPS), skill=skill)
    base = bench.start(BEFORE).base
    done = bench.start(payload, base=base, seeds=seeds, mode=mode)
    assert actions(done.plan) == expected
    assert done.executed == executed
    count = len(to_execute(done.plan))
    assert done.plan.to_execute_count == count
    state = "queued" if count else "completed"
    assert update_message(done.plan) == f"Update run {state} - {count} steps will be re-executed"
    assert done.plan.seed_step_ids == tuple(seeds)


def test_an_update_finds_what_another_run_cached() -> None:
    """An impacted step whose new input was seen by any run is reused from there; then what reads it is known too."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    other = bench.start(AFTER)
    update = bench.start(AFTER, base=base, seeds=["plan"])
    assert actions(update.plan) == {
        "plan": CACHED,
        "music": CACHED,
        "art": CACHED,
        "mix": CACHED,
        "side": UNAFFECTED,
    }
    assert update.outputs == other.outputs
    assert not update.executed


def test_a_chain_of_updates_names_the_producer() -> None:
    """Reuse is resolved transitively: a third run names the first, which executed the step."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    first = bench.start(BEFORE)
    second = bench.start(AFTER, base=first.base, seeds=["plan"])
    third = bench.start(AFTER, base=second.base, seeds=["music"])
    bindings = {planned.step_id: planned.binding for planned in third.plan.steps}
    assert {name: bound.producer_run for name, bound in bindings.items() if bound} == {
        "plan": 2,
        "music": 2,
        "art": 2,
        "mix": 2,
        "side": 1,
    }


@pytest.mark.parametrize("policy", [DISABLED, RUN_ONLY], ids=["disabled", "run only"])
def test_without_the_cache_only_the_base_is_reused(policy: object) -> None:
    """A step that is not shared is never looked up: it executes, unless the base did the same."""
    steps = (step("a", trigger=["x"], cache=policy), step("b", "a", cache=policy))  # type: ignore[arg-type]
    bench = Bench(workflow=workflow(*steps), skill=echo)
    assert actions(bench.plan(bench.request(BEFORE))) == {"a": EXECUTE_INITIAL, "b": EXECUTE_INITIAL}
    base = bench.start(BEFORE).base
    again = bench.start(BEFORE)
    assert again.executed == {"a", "b"}
    unchanged = bench.start(BEFORE, base=base, seeds=["a"])
    assert actions(unchanged.plan) == {"a": UNCHANGED, "b": UNCHANGED}
    assert actions(bench.plan(bench.request(AFTER, base=base, seeds=["a"]))) == {"a": EXECUTE_SEED, "b": UNKNOWN_DOWN}
    assert not any(question.lookups for question in bench.questions)


def test_without_the_skills_version_nothing_impacted_is_certain() -> None:
    """While a runner has not been heard its steps are UNKNOWN; what is not impacted is reused all the same."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    bench.versions["music"] = None
    plan = bench.plan(bench.request(BEFORE, base=base, seeds=["music"]))
    assert actions(plan)["music"] == "UNKNOWN SEED"
    assert named(plan, "music").unknown_until == ()
    assert actions(plan)["art"] == UNAFFECTED


def test_a_new_cache_version_is_another_skill() -> None:
    """An impacted step executes again when its skill's cache version changed, although its input did not."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    bench.versions["music"] = "2"
    done = bench.start(BEFORE, base=base, seeds=["music"])
    assert actions(done.plan)["music"] == EXECUTE_SEED
    assert done.executed == {"music"}
    assert bench.start(BEFORE, base=base, seeds=["art"]).executed == frozenset()


def test_reading_the_run_id_makes_an_impacted_step_execute() -> None:
    """A selector that reads run.id differs in every run; outside the impact that is no reason to widen it."""
    steps = (step("a", run="run.id", trigger=["x"]), step("b", trigger=["y"]))
    bench = Bench(workflow=workflow(*steps), skill=echo)
    base = bench.start(BEFORE).base
    assert actions(bench.plan(bench.request(BEFORE, base=base, seeds=["a"])))["a"] == EXECUTE_SEED
    outside = bench.start({"x": 1, "y": 2}, base=base, seeds=["b"])
    assert actions(outside.plan) == {"a": UNAFFECTED, "b": EXECUTE_SEED}
    chained = bench.plan(bench.request({"x": 2, "y": 2}, base=outside.base, seeds=["b"]))
    assert actions(chained) == {"a": "EXECUTE WIDENED", "b": UNCHANGED}


def test_a_widened_step_of_a_bypassing_run_executes() -> None:
    """Where nothing may be read, a widened step executes, also before its runner has been heard."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    bench.versions["side"] = None
    plan = bench.plan(bench.request({"x": 1, "y": 2}, base=base, seeds=["music"], mode=CacheMode.BYPASS))
    assert actions(plan)["side"] == "EXECUTE WIDENED"


def test_reading_the_change_widens() -> None:
    """A step that reads `change` has another input in every update, whatever the declared impact."""
    bench = Bench(workflow=workflow(step("a", trigger=["x"]), step("b", change="change")), skill=echo)
    base = bench.start(BEFORE).base
    assert actions(bench.plan(bench.request(AFTER, base=base, seeds=["a"]))) == {
        "a": EXECUTE_SEED,
        "b": "EXECUTE WIDENED",
    }


def test_a_change_in_many_places_is_seen_in_all_of_them() -> None:
    """However many places of the payload change, a step outside the impact that reads one of them is widened."""
    bench = Bench(workflow=workflow(step("a", trigger=["x"]), step("b", trigger=["zz"])), skill=echo)
    many: JsonObject = {f"k{n:04}": 1 for n in range(2 * PAYLOAD_CHANGES_MAX)}
    base = bench.start({"x": 1, "zz": 1, **many}).base
    after: JsonObject = {"x": 2, "zz": 2, **dict.fromkeys(many, 2)}
    assert actions(bench.plan(bench.request(after, base=base, seeds=["a"])))["b"] == "EXECUTE WIDENED"
    same: JsonObject = {"x": 2, "zz": 1, **dict.fromkeys(many, 2)}
    assert actions(bench.plan(bench.request(same, base=base, seeds=["a"])))["b"] == UNAFFECTED


def test_depending_without_reading_is_known_at_once() -> None:
    """A step that depends on an executing one without reading it is reused; one that reads it further up is not."""
    steps = (step("a", trigger=["x"]), step("b", "a", reads=()), step("c", "b", reads=["a", "b"]), step("d", "b"))
    bench = Bench(workflow=workflow(*steps), skill=echo)
    base = bench.start(BEFORE).base
    done = bench.start(AFTER, base=base, seeds=["a"])
    assert actions(done.plan) == {"a": EXECUTE_SEED, "b": UNCHANGED, "c": UNKNOWN_DOWN, "d": UNCHANGED}
    assert named(done.plan, "c").unknown_until == ("a",)
    assert done.executed == {"a", "c"}


def test_a_step_the_base_lacks_executes_with_what_follows_it() -> None:
    """A base without an output of a step gives NO_BASE_OUTPUT, and what lies downstream is decided anew."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    del base.results[bench.compiled.step_no["music"]]  # type: ignore[attr-defined,index]
    bench.cache.clear()
    plan = bench.plan(bench.request({"x": 1, "y": 2}, base=base, seeds=["side"]))
    assert actions(plan) == {
        "plan": UNAFFECTED,
        "music": "EXECUTE NO_BASE_OUTPUT",
        "art": UNAFFECTED,
        "mix": UNKNOWN_DOWN,
        "side": EXECUTE_SEED,
    }


def test_a_selector_that_fails_is_planned_to_execute() -> None:
    """A missing path shows when the step runs; the plan does not refuse."""
    bench = Bench(workflow=workflow(step("a", trigger=["missing"])), skill=echo)
    assert actions(bench.plan(bench.request(BEFORE))) == {"a": EXECUTE_INITIAL}


def test_the_estimate_is_the_longest_chain() -> None:
    """The plan's estimate is the critical path of what executes, from history; None when a step has none."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    plan = bench.plan(bench.request(AFTER, base=base, seeds=["plan"]))
    number = bench.compiled.step_no
    assert steps_to_estimate(plan) == [number[StepId(name)] for name in ("plan", "music", "art", "mix")]
    took = {number[StepId(name)]: s for name, s in (("plan", 5.0), ("music", 30.0), ("art", 40.0), ("mix", 2.0))}
    shown = with_estimates(plan, bench.compiled, {**took, number[StepId("side")]: 100.0})
    assert [planned.estimate_s for planned in shown.steps] == [5.0, 30.0, 40.0, 2.0, None]
    assert (shown.estimate_s, shown.digest) == (47.0, plan.digest)
    del took[number[StepId("art")]]
    assert with_estimates(plan, bench.compiled, took).estimate_s is None


def test_causes_are_at_most_sixteen() -> None:
    """caused_by and unknown_until name direct dependencies, at most 16 each."""
    roots = [step(f"r{n}", trigger=["x"]) for n in range(20)]
    bench = Bench(workflow=workflow(*roots, step("join", *(root.step_id for root in roots))), skill=echo)
    join = named(bench.plan(bench.request(BEFORE)), "join")
    assert len(join.caused_by) == len(join.unknown_until) == 16


def test_the_digest_is_the_same_for_the_same_plan() -> None:
    """Dry run and real run have one digest although their run ids differ, also where a selector reads run.id."""
    bench = Bench(workflow=workflow(*STEPS, step("who", "plan", run="run.id")), skill=echo)
    base = bench.start(BEFORE).base
    digests = {bench.plan(bench.request(AFTER, base=base, seeds=["plan"], run=run)).digest for run in (7, 8, 9)}
    assert len(digests) == 1


def test_the_digest_follows_what_will_happen() -> None:
    """Another payload, mode, seed, base, producer or action gives another digest."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    requests = [
        bench.request(AFTER, base=base, seeds=["plan"]),
        bench.request({"x": 3, "y": 1}, base=base, seeds=["plan"]),
        bench.request(AFTER, base=base, seeds=["plan"], mode=CacheMode.READ_ONLY),
        bench.request(AFTER, base=base, seeds=["music"]),
        bench.request(AFTER),
    ]
    digests = [bench.plan(request).digest for request in requests]
    bench.start(AFTER)  # now cached: other actions and producers
    digests += [bench.plan(request).digest for request in requests[:1]]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 for digest in digests)


def test_a_plan_asks_in_batches() -> None:
    """A level costs at most one question for outputs and one for the cache, however many steps it has."""
    wide = [step("root", trigger=["x"]), *(step(f"s{n}", "root") for n in range(50))]
    bench = Bench(workflow=workflow(*wide), skill=echo)
    bench.start(BEFORE)
    bench.questions.clear()
    bench.plan(bench.request(BEFORE))
    assert len(bench.questions) == 3
    assert [len(question.lookups) for question in bench.questions] == [1, 0, 50]
    assert [len(question.outputs) for question in bench.questions] == [0, 1, 0]


def test_nothing_is_asked_for_what_is_certain() -> None:
    """A bypassing run asks nothing; an update reads outputs only where it must resolve an input."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    bench.questions.clear()
    bench.plan(bench.request(AFTER, mode=CacheMode.BYPASS))
    bench.plan(bench.request(BEFORE, base=base, seeds=["side"], mode=CacheMode.REFRESH))
    assert bench.questions == []


def test_every_reuse_is_bound() -> None:
    """REUSE has a binding with the input it was made from; nothing else has one."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(BEFORE).base
    plan = bench.plan(bench.request(AFTER, base=base, seeds=["art"]))
    for planned in plan.steps:
        assert (planned.binding is not None) == (planned.action is PlanAction.REUSE)
        if planned.binding is not None:
            assert len(planned.binding.input_hash) == len(planned.binding.output_hash) == 64
    assert canonical_bytes(base.payload) == canonical_bytes(BEFORE)
