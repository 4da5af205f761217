"""Differences between two inputs are traced to what the expression there reads and what of it differs."""

import pytest

from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.planner.input_changes import (
    POINTERS_MAX,
    InputChange,
    Source,
    SourceKind,
    TracedInput,
    compare_inputs,
)
from runengine_server.planner.selector import compile_selector
from runengine_server.planner.step_input import RunScope, StepValue

DEFAULT = "${{ has(trigger.style) ? trigger.style : trigger.brief.style }}"


def traced(
    template: JsonObject,
    trigger: JsonObject | None = None,
    *,
    change: JsonValue = None,
    run_id: str = "r",
    **values: StepValue,
) -> TracedInput:
    selector = compile_selector(template)
    scope = RunScope(
        trigger=trigger or {},
        change=change,
        run={"id": run_id, "workflowName": "w"},
        value_of=values.__getitem__,
    )
    value, body = selector.resolve_canonical(scope)
    assert isinstance(value, dict)
    return TracedInput(value=value, size_bytes=len(body), selector=selector, scope=scope, values=values)


def only(before: TracedInput, after: TracedInput) -> InputChange:
    (change,) = compare_inputs(before, after).changes
    return change


def test_equal_inputs() -> None:
    """Equal inputs have no differences, whatever else of what they could read differs."""
    template: JsonObject = {"style": "${{ trigger.style }}"}
    before = traced(template, {"style": "a", "volume": 1})
    after = traced(template, {"style": "a", "volume": 2}, run_id="s")
    assert compare_inputs(before, after).changes == ()


def test_only_the_paths_that_differ_are_blamed() -> None:
    """Of all the paths an expression reads, those whose values differ are named, also one that is new."""
    before = traced({"s": DEFAULT}, {"brief": {"style": "calm"}})
    assert only(before, traced({"s": DEFAULT}, {"brief": {"style": "epic"}})).sources == (
        Source(kind=SourceKind.TRIGGER, name="/brief/style"),
    )
    new = only(before, traced({"s": DEFAULT}, {"brief": {"style": "calm"}, "style": "epic"}))
    assert new == InputChange(
        pointer="/s",
        before='"calm"',
        after='"epic"',
        sources=(Source(kind=SourceKind.TRIGGER, name="/style"),),
    )


@pytest.mark.parametrize(
    ("expression", "before", "after", "source"),
    [
        ("change.type", {"change": {"type": "a"}}, {"change": {"type": "b"}}, Source(kind=SourceKind.CHANGE)),
        ("run.id", {"run_id": "a"}, {"run_id": "b"}, Source(kind=SourceKind.RUN)),
        (
            "steps.plan.output.x",
            {"plan": StepValue({"x": 1})},
            {"plan": StepValue({"x": 2})},
            Source(kind=SourceKind.OUTPUT, name="plan"),
        ),
        (
            "steps.plan.artifacts[0].uri",
            {"plan": StepValue({}, ({"uri": "a"},))},
            {"plan": StepValue({}, ({"uri": "b"},))},
            Source(kind=SourceKind.ARTIFACTS, name="plan"),
        ),
    ],
)
def test_every_kind_of_source(expression: str, before: dict, after: dict, source: Source) -> None:
    """Each thing an expression can read is named as what it is."""
    template: JsonObject = {"deep": {"er": f"${{{{ {expression} }}}}"}}
    change = only(traced(template, **before), traced(template, **after))
    assert (change.pointer, change.sources) == ("/deep/er", (source,))


def test_definitions_that_differ() -> None:
    """Another expression, and a constant, come from the definition."""
    before = traced({"a": "${{ trigger.a }}", "b": 1}, {"a": 1})
    after = traced({"a": "${{ trigger.a + 1 }}", "b": 2}, {"a": 1})
    assert {change.sources for change in compare_inputs(before, after).changes} == {
        (Source(kind=SourceKind.DEFINITION),)
    }


def test_values_are_short_and_missing_ones_are_none() -> None:
    """A long value is cut off, what a side does not have is None; below a leaf the pointers lead on into its value."""
    template: JsonObject = {"brief": "${{ trigger.brief }}"}
    before = traced(template, {"brief": {"text": "x" * 500, "gone": None}})
    after = traced(template, {"brief": {"text": "y" * 500, "new": 1.5}})
    gone, new, text = compare_inputs(before, after).changes
    assert (gone.pointer, gone.before, gone.after) == ("/brief/gone", "null", None)
    assert (new.pointer, new.before, new.after) == ("/brief/new", None, "1.5")
    assert text.before is not None and len(text.before) == 60 and text.before.endswith("…")
    assert text.sources == (Source(kind=SourceKind.TRIGGER, name="/brief"),)


@pytest.mark.parametrize(("count", "is_cut"), [(POINTERS_MAX, False), (POINTERS_MAX + 1, True)])
def test_many_differences(count: int, is_cut: bool) -> None:
    """Of more differences than are named, the first are, and it is said that there are more."""
    template: JsonObject = {"brief": "${{ trigger.brief }}"}
    before = traced(template, {"brief": {str(n): 0 for n in range(count)}})
    after = traced(template, {"brief": {str(n): 1 for n in range(count)}})
    found = compare_inputs(before, after)
    assert (len(found.pointers), found.is_cut) == (POINTERS_MAX, is_cut)
