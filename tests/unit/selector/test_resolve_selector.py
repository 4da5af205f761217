"""Execution: values, failures and bounds of a resolved input."""

from collections.abc import Sequence
from typing import Any

import pytest

from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.planner.selector import FixedScope, SelectorFailed, SelectorLimits, compile_selector

TRIGGER: JsonObject = {
    "s": "é😀",
    "l": [1, 2],
    "m": {"k": None, "odd key": 1},
    "key": "secret",
    "i": 1,
    "d": 1.5,
    "t": True,
}


def value_of(expression: str, **scope: Any) -> Any:
    resolved = compile_selector({"v": "${{ " + expression + " }}"}).resolve(FixedScope(trigger=TRIGGER, **scope))
    assert isinstance(resolved, dict)
    return resolved["v"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("size(trigger.s)", 2),
        ("trigger.l.size() + size(trigger)", 9),
        ("trigger.m.k", None),
        ("trigger.m.?k.orValue(5)", None),
        ("trigger.m.?zz.orValue(5)", 5),
        ("trigger.m.?k.zz.orValue(5)", 5),
        ("trigger.?zz.a[0].orValue(5)", 5),
        ("trigger.l[?2].orValue(5)", 5),
        ("trigger.l[?-1].orValue(5)", 5),
        ("trigger.?s.zz.orValue(5)", 5),
        ("trigger.?m.orValue({}).k", None),
        ("trigger.?i.orValue(1 / 0)", 1),
        ("change.?payload.?x.orValue('none')", "none"),
        ('{trigger.key: trigger.l, "k": {"t": trigger.t}}', {"secret": [1, 2], "k": {"t": True}}),
        ("trigger.d * 2", 3),
        ("trigger.i / 2.0", 0.5),
        ("[trigger.d + 0.5, 2.0]", [2, 2]),
        ("trigger.i == 1.0 && 1 < trigger.d", True),
        ("trigger.t == 1", False),
        ("[true] == [1]", False),
        ("-7 % 3", -1),
        (r"""'\'' + "\"" + '''a'b''' + r'\n' + "\x41\101\U0001F600" """, "'\"a'b\\nAA😀"),
        ("1 // comment\n + 2", 3),
        ("{}", {}),
        ("[1, 2, ]", [1, 2]),
    ],
)
def test_gives_values_their_own_type(expression: str, value: Any) -> None:
    """Each expression gives exactly this value, integral numbers as int."""
    assert repr(value_of(expression)) == repr(value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("trigger.m.zz.deep", "trigger.m has no field 'zz'"),
        ('trigger["odd key"].x', "trigger has no field 'odd key'"),
        ('trigger.m["odd key"].x', 'trigger.m["odd key"] is int and has no fields or items'),
        ("trigger.m.k.x", "trigger.m.k is null and has no fields or items"),
        ("trigger.s[0]", "trigger.s is string and has no fields or items"),
        ("trigger.l.x", "trigger.l is a list; its index is an int, not string"),
        ("trigger.l[2]", "trigger.l has no index 2"),
        ("trigger.l[-1]", "trigger.l has no such index"),
        ("trigger.l[trigger.t]", "trigger.l is a list; its index is an int, not bool"),
        ("trigger[trigger.key]", "trigger has no such key"),
        ("trigger.m[1]", "trigger.m has no field '1'"),
        ("has(trigger.m.k.x)", "has() asks null for the field 'x' (it takes a map)"),
        ("change.type", "change is null and has no fields or items"),
        ("trigger.s + 1", "'+' between string and int"),
        ("[1] + [2]", "'+' between list and list"),
        ("trigger.t + 1", "'+' between bool and int"),
        ("null < null", "'<' between null and null"),
        ("true < 1", "'<' between bool and int"),
        ("!1", "'!' takes bool, not int"),
        ("trigger.i ? 1 : 2", "'?' takes bool, not int"),
        ("trigger.i && true", "'&&' takes bool, not int"),
        ("-trigger.s", "'-' before string (it takes a number)"),
        ("1.5 % 1.0", "'%' between double and double"),
        ("1 % 0", "modulo by zero"),
        ("1.0 / 0.0", "division by zero"),
        ("9007199254740991 + 1", "the result of '+' is beyond ±(2^53−1)"),
        ("9007199254740991 * 2.5", "the result of '*' is beyond ±(2^53−1)"),
        ("size(trigger.i)", "size() of int (it takes a string, list or map)"),
        ("{trigger.key: 1, 'sec' + 'ret': 2}", "a map key occurs twice"),
        ("{'' + 'a': 1, trigger.i: 2}", "a map key is int, not string"),
    ],
)
def test_fails_with_place_and_reason(expression: str, message: str) -> None:
    """Each expression fails naming pointer, expression and reason, never a value of the payload."""
    with pytest.raises(SelectorFailed) as failure:
        value_of(expression)
    assert (failure.value.pointer, failure.value.expression) == ("/v", expression)
    assert failure.value.message == message


def test_steps_are_read_only_when_needed() -> None:
    """A scope is asked for a step only by the branch that is taken."""
    asked: list[str] = []

    class Recording:
        trigger: JsonObject = {"t": True}  # noqa: RUF012
        change: JsonValue = None
        run: JsonObject = {}  # noqa: RUF012

        def step_output(self, step_id: str) -> JsonValue:
            asked.append(step_id)
            return {"x": 1}

        def step_artifacts(self, step_id: str) -> Sequence[JsonObject]:
            asked.append(f"{step_id} artifacts")
            return ()

    selector = compile_selector(
        {"v": "${{ trigger.t ? steps.a.output.x : steps.b.output.x }}", "w": "${{ size(steps.c.artifacts) }}"}
    )
    assert selector.resolve(Recording()) == {"v": 1, "w": 0}
    assert asked == ["a", "c artifacts"]
    assert selector.leaves[0].evaluate(Recording()) == 1


def test_large_values_are_shared_not_copied() -> None:
    """An output read whole is the scope's own object."""
    output: JsonValue = {"scenes": list(range(1000))}
    resolved = compile_selector({"v": "${{ steps.a.output }}"}).resolve(FixedScope(outputs={"a": output}))
    assert isinstance(resolved, dict)
    assert resolved["v"] is output


@pytest.mark.parametrize("reads", [2, 40])
def test_the_resolved_input_is_bounded(reads: int) -> None:
    """Outputs within bounds that together exceed them fail the step, with few reads and with many."""
    scope = FixedScope(outputs={"a": "x" * 700_000})
    selector = compile_selector({f"k{index}": "${{ steps.a.output }}" for index in range(reads)})
    with pytest.raises(SelectorFailed, match="the resolved input is longer than 1048576 bytes"):
        selector.resolve(scope)


def test_strings_and_depth_are_bounded() -> None:
    """Concatenation stops at its bound, and so does nesting of template around output."""
    with pytest.raises(SelectorFailed, match="longer than 1048576 characters"):
        compile_selector({"v": "${{ trigger.s + trigger.s }}"}).resolve(FixedScope(trigger={"s": "x" * 600_000}))
    deep: JsonValue = 1
    for _ in range(32):
        deep = [deep]
    with pytest.raises(SelectorFailed, match="nested deeper than 32 levels") as failure:
        compile_selector({"v": "${{ steps.a.output }}"}).resolve(FixedScope(outputs={"a": deep}))
    assert failure.value.expression == "steps.a.output"


def test_the_deepest_allowed_expression_evaluates() -> None:
    """Expressions at the nesting limit parse and evaluate without meeting Python's own limit."""
    depth = SelectorLimits().expression_depth_max - 1
    assert value_of("(" * depth + "1" + ")" * depth) == 1
    assert value_of(" + ".join(["1"] * (depth + 1))) == depth + 1
    assert value_of("!" * (depth - 1) + "trigger.t") is (depth % 2 == 1)


def test_text_that_looks_like_an_expression_can_be_written() -> None:
    """`$${{` stands for `${{` in strings and keys, also more than once."""
    template: JsonObject = {"a": "$${{ x }} and $${{", "$${{ k }}": "$$${{", "n": [1.0, "}}", None]}
    selector = compile_selector(template)
    assert selector.resolve(FixedScope()) == {"a": "${{ x }} and ${{", "${{ k }}": "$${{", "n": [1, "}}", None]}
    assert selector.leaves == ()
