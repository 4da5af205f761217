"""The executable form of a workflow: numbers, order, closure, seeds, shared selectors; also at the largest size."""

import random
import time

import pytest

from runengine_server.domain.ids import SkillId, StepId, StepNo
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.workflow import ChangeRule, StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.planner.selector import FixedScope, SelectorInvalid


def step(step_id: str, *depends_on: str, selector: JsonObject | None = None) -> StepDefinition:
    return StepDefinition(
        step_id=StepId(step_id),
        skill_id=SkillId("demo.echo"),
        depends_on=tuple(map(StepId, depends_on)),
        input_selector=selector or {},
    )


def compiled(*steps: StepDefinition) -> CompiledWorkflow:
    return compile_workflow(Workflow(name="demo", version="1.0.0", steps=steps))


def diamond() -> CompiledWorkflow:
    """Defined back to front: end waits for right and left, which wait for start."""
    return compiled(step("end", "right", "left"), step("left", "start"), step("right", "start"), step("start"))


def test_steps_are_numbered_in_definition_order() -> None:
    """Step n is the n-th of the definition, whatever depends on what."""
    assert diamond().step_no == {"end": 0, "left": 1, "right": 2, "start": 3}


def test_edges_are_by_number_and_ascending() -> None:
    """Dependencies and dependents are direct, by number and ascending, whatever order the author chose."""
    workflow = diamond()
    assert workflow.dependencies == ((1, 2), (3,), (3,), ())
    assert workflow.dependents == ((), (0,), (0,), (1, 2))


def test_order_and_levels() -> None:
    """Order puts dependencies first and otherwise keeps the definition's order; levels are ranks."""
    workflow = diamond()
    assert workflow.order == (3, 1, 2, 0)
    assert workflow.levels == (2, 1, 1, 0)


def test_closure_is_downstream() -> None:
    """The closure holds the seeds and everything downstream, nothing else."""
    workflow = diamond()
    assert workflow.closure([StepNo(1)]) == {0, 1}
    assert workflow.closure([StepNo(3)]) == {0, 1, 2, 3}
    assert workflow.closure([]) == frozenset()


def test_seeds_of_a_rule() -> None:
    """Seeds become numbers in the rule's order, and the star means every step."""
    workflow = diamond()
    assert workflow.seeds_of(ChangeRule(type="a", seed_step_ids=("start", "left"))) == (3, 1)
    assert workflow.seeds_of(ChangeRule(type="b", seed_step_ids=("*",))) == (0, 1, 2, 3)


def test_equal_templates_share_a_selector_and_others_do_not() -> None:
    """Templates that differ in type only (1, true, 1.0 as text) are not mistaken for one another."""
    workflow = compiled(
        step("a", selector={"x": "${{ trigger.y }}"}),
        step("b", selector={"x": "${{ trigger.y }}"}),
        step("c", selector={"x": 1}),
        step("d", selector={"x": True}),
        step("e", selector={"x": None}),
    )
    a, b, c, d, e = workflow.selectors
    assert a is b
    scope = FixedScope(trigger={"y": "z"})
    assert [selector.resolve(scope) for selector in (a, c, d, e)] == [{"x": "z"}, {"x": 1}, {"x": True}, {"x": None}]


def test_what_was_never_validated_is_refused() -> None:
    """Compiling says so instead of building a workflow that could not run."""
    with pytest.raises(ValueError, match="unknown dependency 'nowhere'"):
        compiled(step("a", "nowhere"))
    with pytest.raises(ValueError, match="cycle"):
        compiled(step("a", "b"), step("b", "a"))
    with pytest.raises(SelectorInvalid):
        compiled(step("a", selector={"x": "${{ nonsense( }}"}))


def test_a_chain_of_the_largest_length_compiles() -> None:
    """10,000 steps in a row, defined last first, meet no recursion limit."""
    size = 10_000
    steps = [step(f"s{n}", *([f"s{n - 1}"] if n else [])) for n in range(size)]
    workflow = compiled(*reversed(steps))
    assert workflow.levels[0] == size - 1
    assert workflow.closure([StepNo(size - 1)]) == frozenset(range(size))


def test_the_largest_workflow_compiles_quickly() -> None:
    """10,000 steps with 100,000 dependencies compile within 5 s; measured 0.11 s with a shared selector."""
    chance = random.Random(7)
    steps = [
        step(
            f"s{n}",
            *(f"s{d}" for d in chance.sample(range(n), min(n, 10))),
            selector={"plan": "${{ trigger.plan }}"},
        )
        for n in range(10_000)
    ]
    started = time.perf_counter()
    workflow = compiled(*steps)
    assert time.perf_counter() - started < 5
    assert sum(map(len, workflow.dependencies)) == sum(map(len, workflow.dependents)) == 99_945
