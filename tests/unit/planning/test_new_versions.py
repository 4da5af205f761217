"""Rebuilds onto another version of the workflow: steps match by id, what changed is affected with its downstream."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from runengine_server.domain.ids import SkillId, StepId, StepNo, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import CacheScope
from runengine_server.domain.workflow import CachePolicy, StepDefinition
from runengine_server.planner.version_match import changed_steps, comparable_results, continued_results

from .bench import Bench, Done, actions, echo, named, step, workflow

PAYLOAD: JsonObject = {"x": 1, "y": 1}
PLAN = step("plan", trigger=["x"])
MUSIC = step("music", "plan")
ART = step("art", "plan")
MIX = step("mix", "music", "art")
STEPS = (PLAN, MUSIC, ART, MIX)
NONE = "REUSE UNAFFECTED"


def _version(first: Bench, *steps: StepDefinition, cache_epoch: str = "") -> Bench:
    """Another version on the same tenant's runs, values and cache."""
    definition = replace(workflow(*steps), version="2.0.0", digest=WorkflowDigest("cd" * 32), cache_epoch=cache_epoch)
    return Bench(
        workflow=definition,
        skill=echo,
        versions=first.versions,
        values=first.values,
        cache=first.cache,
        runs=first.runs,
    )


def _update(first: Bench, done: Done, second: Bench, seeds: Sequence[str] = ()) -> Done:
    return second.start(PAYLOAD, base=done.base, base_of=first.compiled, seeds=seeds)


def _two(*steps: StepDefinition) -> tuple[Bench, Done, Bench]:
    first = Bench(workflow=workflow(*STEPS), skill=echo)
    done = first.start(PAYLOAD)
    first.cache.clear()
    return first, done, _version(first, *steps)


def test_the_same_steps_in_another_order_are_reused() -> None:
    """Steps are matched by their id: another order, descriptions, retries or timeouts change nothing."""
    first, done, second = _two(ART, PLAN, replace(MIX, description="new", timeout_s=5.0), MUSIC)
    again = _update(first, done, second)
    assert actions(again.plan) == dict.fromkeys(("art", "plan", "mix", "music"), NONE)
    assert again.outputs == done.outputs
    binding = named(again.plan, "mix").binding
    assert binding is not None
    assert (binding.producer_run, binding.producer_step) == (1, first.compiled.step_no[StepId("mix")])
    assert not again.executed


@pytest.mark.parametrize(
    ("music", "expected"),
    [
        (replace(MUSIC, skill_id=SkillId("skill.other")), "EXECUTE DEFINITION_CHANGED"),
        (step("music", "plan", trigger=["y"]), "EXECUTE DEFINITION_CHANGED"),
        (replace(MUSIC, cache_policy=CachePolicy(scope=CacheScope.RUN_ONLY)), "REUSE INPUT_UNCHANGED"),
        (replace(step("music", "plan", "art"), input_selector=MUSIC.input_selector), "REUSE INPUT_UNCHANGED"),
    ],
    ids=["skill", "selector", "scope", "dependencies"],
)
def test_a_changed_definition_affects_its_downstream(music: StepDefinition, expected: str) -> None:
    """Skill, selector, scope and dependencies make DEFINITION_CHANGED; equal input and fingerprint are still reused."""
    first, done, second = _two(PLAN, music, ART, MIX)
    assert changed_steps(first.compiled, second.compiled) == {second.compiled.step_no[StepId("music")]}
    again = _update(first, done, second)
    is_reused = expected.startswith("REUSE")
    assert actions(again.plan) == {
        "plan": NONE,
        "music": expected,
        "art": NONE,
        "mix": "REUSE INPUT_UNCHANGED" if is_reused else "UNKNOWN DOWNSTREAM",
    }
    assert ("music" in again.executed) is not is_reused
    assert again.outputs == second.from_scratch(second.request(PAYLOAD))


def test_the_same_selector_in_other_words_is_the_same() -> None:
    """Selectors are compared in canonical form: the order of members and the spelling of numbers do not count."""
    one = replace(PLAN, input_selector={"a": 1, "b": "${{ trigger.x }}"})
    two = replace(PLAN, input_selector={"b": "${{ trigger.x }}", "a": 1.0})
    three = replace(PLAN, input_selector={"b": "${{ trigger.x }}", "a": True})
    first = Bench(workflow=workflow(one), skill=echo)
    assert changed_steps(first.compiled, _version(first, two).compiled) == frozenset()
    assert changed_steps(first.compiled, _version(first, three).compiled) == {StepNo(0)}


def test_a_new_step_has_no_base_output() -> None:
    """A step the base's version lacks is NO_BASE_OUTPUT; what depends on it was redefined to do so."""
    first, done, second = _two(PLAN, MUSIC, ART, step("video", "plan"), step("mix", "music", "art", "video"))
    again = _update(first, done, second)
    assert actions(again.plan) == {
        "plan": NONE,
        "music": NONE,
        "art": NONE,
        "video": "EXECUTE NO_BASE_OUTPUT",
        "mix": "UNKNOWN DEFINITION_CHANGED",
    }
    assert again.executed == {"video", "mix"}


def test_a_removed_step_drops() -> None:
    """A step that only the base's version has is gone, and what no longer depends on it has changed."""
    first, done, second = _two(PLAN, MUSIC, step("mix", "music"))
    again = _update(first, done, second)
    assert actions(again.plan) == {"plan": NONE, "music": NONE, "mix": "EXECUTE DEFINITION_CHANGED"}
    assert named(again.plan, "mix").changed_pointers == ("/of_art",)
    assert again.outputs.keys() == {"plan", "music", "mix"}


def test_seeds_and_force_outrank_a_changed_definition() -> None:
    """A seed keeps its reason, for REFRESH covers seeds; a forced step keeps its own."""
    first, done, second = _two(PLAN, step("music", "plan", trigger=["y"]), ART, MIX)
    plan = second.plan(second.request(PAYLOAD, base=done.base, base_of=first.compiled, seeds=["music"]))
    assert actions(plan)["music"] == "EXECUTE SEED"
    plan = second.plan(second.request(PAYLOAD, base=done.base, base_of=first.compiled, forced=["music"]))
    assert actions(plan)["music"] == "EXECUTE FORCED"


def test_another_epoch_or_skill_is_no_equal_fingerprint() -> None:
    """An affected step whose skill or epoch changed is not the base's, although its input is."""
    first, done, _ = _two(*STEPS)
    epoch = _version(first, *STEPS, cache_epoch="2")
    again = epoch.start(PAYLOAD, base=done.base, base_of=first.compiled, seeds=["music"])
    assert actions(again.plan)["music"] == "EXECUTE SEED"
    assert actions(again.plan)["art"] == NONE, "what the change does not reach is the base's in every case"
    results = done.base.results
    assert comparable_results(first.compiled, epoch.compiled, results) == {}
    other = _version(first, PLAN, replace(MUSIC, skill_id=SkillId("skill.other")), ART, MIX)
    music = other.compiled.step_no[StepId("music")]
    assert continued_results(first.compiled, other.compiled, results).keys() == results.keys()
    assert comparable_results(first.compiled, other.compiled, results).keys() == results.keys() - {music}


def test_a_later_update_goes_on_from_there() -> None:
    """The rebuilt run is a base of the new version like any other, and a base to go back from."""
    first, done, second = _two(MIX, ART, PLAN, MUSIC)
    there = _update(first, done, second)
    same = second.start(PAYLOAD, base=there.base, seeds=["music"])
    assert set(actions(same.plan).values()) == {NONE, "REUSE INPUT_UNCHANGED"}
    back = first.plan(first.request(PAYLOAD, base=there.base, base_of=second.compiled))
    assert set(actions(back).values()) == {NONE}
