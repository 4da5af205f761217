"""Property: the language agrees with an independent implementation of CEL wherever it does not say otherwise."""

from dataclasses import dataclass
from typing import Any

import cel
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from runengine_server.domain.canonical_json import canonical_bytes, parse_json
from runengine_server.planner.selector import (
    FixedScope,
    SelectorFailed,
    SelectorInvalid,
    SelectorLimits,
    compile_selector,
)

SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Raised by the oracle for "no value"; anything else would be a fault of the test.
ORACLE_ERRORS = (TypeError, KeyError, IndexError, ZeroDivisionError, OverflowError, RuntimeError, ValueError)

TRIGGER: dict[str, Any] = {
    "t": True,
    "f": False,
    "nul": None,
    "i": 3,
    "neg": -4,
    "zero": 0,
    "s": "ab",
    "empty": "",
    "l": [1, 2, 3],
    "ll": [[1], [], [True, None]],
    "m": {"k": 1, "x": {"y": "z"}, "odd key": 7},
    "key": "k",
}
DOUBLES: dict[str, Any] = {"d": 1.5, "e": -0.25}
OUTPUT: dict[str, Any] = {"title": "T", "n": 2, "scenes": [{"id": 1}, {"id": 2}]}
ARTIFACT: dict[str, Any] = {"type": "image/png", "uri": "file:///a", "sizeBytes": 9}


@dataclass
class Failed:
    """The expression has no value."""


def ours(expression: str, trigger: dict[str, Any]) -> Any:
    scope = FixedScope(trigger=trigger, outputs={"plan": OUTPUT}, artifacts={"plan": [ARTIFACT]})
    try:
        selector = compile_selector({"v": "${{ " + expression + " }}"}, SelectorLimits(expression_chars_max=20_000))
    except SelectorInvalid:
        return Failed()  # What can only fail, such as a null index, is refused at once.
    try:
        resolved = selector.resolve(scope)
    except SelectorFailed as error:
        assume("beyond" not in error.message)  # CEL's ints reach 2^63, ours 2^53.
        assume("'-' before bool" not in error.message)  # The oracle lets it through; CEL has no such overload.
        return Failed()
    assert isinstance(resolved, dict)
    return resolved["v"]


def oracle(expression: str, trigger: dict[str, Any]) -> Any:
    context = {"trigger": trigger, "change": None, "steps": {"plan": {"output": OUTPUT, "artifacts": [ARTIFACT]}}}
    try:
        return cel.evaluate(expression, context)
    except ORACLE_ERRORS:
        return Failed()


PATHS = st.sampled_from(
    [
        *(f"trigger.{name}" for name in TRIGGER),
        "trigger.missing",
        "trigger.m.k",
        "trigger.m.x.y",
        'trigger.m["odd key"]',
        'trigger["m"]["x"]',
        "trigger.m[trigger.key]",
        "trigger.l[0]",
        "trigger.l[2]",
        "trigger.l[3]",
        "trigger.ll[2][0]",
        "trigger.l.k",
        "trigger.nul.k",
        "trigger.s.k",
        "change",
        "steps.plan.output.title",
        "steps.plan.output.scenes[1].id",
        "steps.plan.artifacts[0].sizeBytes",
        "steps.plan.artifacts[1].uri",
    ]
)
TESTS = st.sampled_from(
    [
        "has(trigger.m)",
        "has(trigger.missing)",
        "has(trigger.m.k)",
        "has(trigger.m.zz)",
        "has(trigger.missing.k)",
        "has(trigger.nul)",
        "has(trigger.nul.k)",
        "has(trigger.s.k)",
        "has(trigger.m.x.y)",
        "has(steps.plan.output.title)",
    ]
)
LITERALS = st.sampled_from(
    ["null", "true", "false", "0", "1", "7", "0x1F", '"ab"', "'a'", '""', '"\\u00e9\\n"', r"r'\n'", "[]", "{}"]
)
BINARY = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "&&", "||"])


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = inner.map(lambda text: f"({text})")
    return st.one_of(
        st.tuples(group, BINARY, group).map(" ".join),
        st.tuples(group, group, inner).map(lambda p: f"{p[0]} ? {p[1]} : {p[2]}"),
        st.sampled_from("!-").flatmap(lambda sign: group.map(lambda text: sign + text)),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(inner, max_size=3).map(
            lambda items: "{" + ", ".join(f'"k{index}": {item}' for index, item in enumerate(items)) + "}"
        ),
        st.tuples(group, group).map(lambda p: f"{p[0]}[{p[1]}]"),
        group.map(lambda text: f"{text}.k"),
    )


EXPRESSIONS = st.recursive(PATHS | TESTS | LITERALS, compound, max_leaves=8)
# Unparenthesised, so that precedence and associativity decide.
FLAT = st.lists(
    st.tuples(BINARY, st.sampled_from(["1", "2", "3", "trigger.i", "true", "false", "!true", "-2"])),
    min_size=2,
    max_size=6,
).map(lambda parts: "5 " + " ".join(f"{op} {operand}" for op, operand in parts))


def is_list_concatenation(expression: str, ours_value: Any, theirs: Any) -> bool:
    """CEL also joins lists with +; the language does not."""
    return "+" in expression and isinstance(ours_value, Failed) and not isinstance(theirs, Failed)


@SETTINGS
@given(expression=EXPRESSIONS)
def test_agrees_with_cel_on_values_and_errors(expression: str) -> None:
    """Without doubles, an expression has a value exactly where CEL gives it one, and the same value."""
    mine, theirs = ours(expression, TRIGGER), oracle(expression, TRIGGER)
    assume(not is_list_concatenation(expression, mine, theirs))
    assert (type(mine), mine) == (type(theirs), theirs), expression


@SETTINGS
@given(expression=FLAT)
def test_agrees_with_cel_on_precedence(expression: str) -> None:
    """Operators bind and associate as in CEL."""
    mine, theirs = ours(expression, TRIGGER), oracle(expression, TRIGGER)
    assert (type(mine), mine) == (type(theirs), theirs), expression


@SETTINGS
@given(
    expression=st.recursive(
        PATHS | st.sampled_from(["trigger.d", "trigger.e", "0.5", "2.0", "1e2", "3", "-1"]),
        lambda inner: st.tuples(inner.map("({})".format), BINARY, inner.map("({})".format)).map(" ".join),
        max_leaves=6,
    )
)
def test_agrees_with_cel_on_doubles(expression: str) -> None:
    """With doubles, where CEL gives a value within JSON's range, the language gives the same number."""
    trigger = TRIGGER | DOUBLES
    theirs = oracle(expression, trigger)
    assume(not isinstance(theirs, Failed))
    assume("/" not in expression or not isinstance(ours(expression, trigger), Failed))  # CEL: 1.0 / 0.0 is inf
    mine = ours(expression, trigger)
    assume(not is_list_concatenation(expression, mine, theirs))
    assert mine == theirs, expression
    assert not isinstance(mine, float) or not mine.is_integer()


@SETTINGS
@given(
    expression=st.one_of(
        st.text(alphabet="trige.?[]{}()\"'0123e+-*/%&|=!<>:, \n\\xu$", max_size=40),
        EXPRESSIONS.flatmap(
            lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, 6)).map(
                lambda cut: text[: cut[0]] + text[cut[0] + cut[1] :]
            )
        ),
    )
)
def test_refuses_or_compiles_any_text(expression: str) -> None:
    """Whatever the text is, it compiles or is refused as SelectorInvalid, and evaluates or fails as SelectorFailed."""
    try:
        selector = compile_selector({"v": "${{ " + expression + " }}"})
    except SelectorInvalid as error:
        assert error.problems
        return
    try:
        resolved = selector.resolve(FixedScope(trigger=TRIGGER | DOUBLES, outputs={}))
    except (SelectorFailed, KeyError):
        return
    assert parse_json(canonical_bytes(resolved)) == resolved


@SETTINGS
@given(expression=EXPRESSIONS, dropped=st.sampled_from(sorted(TRIGGER)))
def test_reads_name_everything_that_matters(expression: str, dropped: str) -> None:
    """Removing a field of the payload that the reads do not name never changes the result."""
    try:
        selector = compile_selector({"v": "${{ " + expression + " }}"})
    except SelectorInvalid:
        return
    read = selector.reads.trigger
    assume("" not in read and not any(pointer.split("/")[1] == dropped for pointer in read))
    without = {key: value for key, value in TRIGGER.items() if key != dropped}
    assert ours(expression, TRIGGER) == ours(expression, without)


@pytest.mark.parametrize("expression", ["1 + 1", "trigger.i * 2 == 6"])
def test_the_oracle_answers(expression: str) -> None:
    """The independent implementation is there and evaluates, so that agreement means something."""
    assert not isinstance(oracle(expression, TRIGGER), Failed)
