"""Registration: what is refused, with which words, and what is known about the rest."""

from typing import Any

import pytest

from runengine_server.planner.selector import Reads, SelectorInvalid, compile_selector


def problems_of(template: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(SelectorInvalid) as refusal:
        compile_selector(template)
    return [(problem.pointer, problem.expression, problem.message) for problem in refusal.value.problems]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "column 1: the expression is empty"),
        ("brief.style", "column 1: unknown name 'brief'"),
        ("trigger.x + y", "column 13: unknown name 'y'"),
        ("trigger.", "expected a field name"),
        ("trigger.a-b.c", "unknown name 'b'"),
        ("trigger.in", "expected a field name"),
        ("trigger a", "unexpected 'a'"),
        ("(trigger.a", "the expression ends too early, expected ')'"),
        ("steps", "steps.<stepId>.output"),
        ("steps.plan", "steps.<stepId>.output"),
        ("steps.plan.input", "steps.<stepId>.output"),
        ("steps[trigger.x].output", "steps.<stepId>.output"),
        ("steps.?plan.output.orValue(1)", "put '?' behind it"),
        ("has(steps.plan.output)", "has() asks for a field inside"),
        ("has(steps.plan)", "steps.<stepId>.output"),
        ("steps.plan.artifacts[0].id", "an artifact has only the fields"),
        ("run.deadline", "'run' has only the fields id and workflowName"),
        ('change["kind"]', "'change' has only the fields payload and type"),
        ("trigger.l.map(x, x)", "the macro 'map'"),
        ("trigger.l.exists(x, x > 1)", "the macro 'exists'"),
        ("string(trigger.x)", "the function 'string'"),
        ("now()", "the function 'now'"),
        ("trigger.s.contains('x')", "the function 'contains'"),
        ("1 in trigger.l", "the operator 'in'"),
        ("has(trigger)", "has() takes a path"),
        ("has(trigger['x'])", "has() takes a path"),
        ("trigger.?x", "closed by .orValue"),
        ("trigger.?x + 1", "closed by .orValue"),
        ("has(trigger.?x.y)", "closed by .orValue"),
        ("trigger.x.orValue(1)", "needs an optional path"),
        ("1u", "unsigned literals"),
        ("b'x'", "bytes literals"),
        ("12abc", "a number is followed by"),
        ("9007199254740992", "beyond ±(2^53−1)"),
        ("1e400", "beyond ±(2^53−1)"),
        ("'open", "the string is not closed"),
        (r"'\ud800'", "stands for no character"),
        (r"'\q'", "stands for no character"),
        ("trigger.a = 1", "did you mean '=='"),
        ("trigger.a & trigger.b", "did you mean '&&'"),
        ("{1: 2}", "a map key is a string"),
        ("{'a': 1, 'a': 2}", "the map key 'a' occurs twice"),
        ("trigger.l[1.5]", "an index is an int"),
        ("trigger.l[true]", "an index is an int"),
        ("while", "a reserved word"),
        ("-!true", "cannot be mixed"),
        ("true ? true ? 1 : 2 : 3", "expected ':'"),
        ("trigger.a }} ${{ trigger.b", "unexpected"),
        ("(" * 65 + "1" + ")" * 65, "nests deeper than 64"),
        ("-" * 70 + "1", "nests deeper than 64"),
        (" + ".join(["1"] * 70), "nests deeper than 64"),
        ("[" + "1," * 300 + "]", "more than 250 parts"),
        ("'" + "x" * 5_000 + "'", "longer than 4096 characters"),
    ],
)
def test_refuses_what_is_not_in_the_language(expression: str, message: str) -> None:
    """Each expression is refused at its leaf with words that say what to do."""
    [(pointer, shown, found)] = problems_of({"a": ["${{ " + expression + " }}"]})
    assert (pointer, shown) == ("/a/0", expression.strip())
    assert message in found


@pytest.mark.parametrize(
    ("template", "pointer", "message"),
    [
        ({"a": "x ${{ trigger.a }}"}, "/a", "text around an expression"),
        ({"a": "${{ trigger.a }} x"}, "/a", "text around an expression"),
        ({"a": " ${{ trigger.a }}"}, "/a", "text around an expression"),
        ({"a": "${{ trigger.a"}, "/a", "not closed"),
        ({"${{ trigger.a }}": 1}, "/${{ trigger.a }}", "a key cannot be an expression"),
        ({"a": float("nan")}, "/a", "NaN"),
        ({"a": "x" * 70_000}, "", "longer than 65536"),
    ],
)
def test_refuses_templates_that_mix_or_exceed(template: Any, pointer: str, message: str) -> None:
    """A template that mixes text and expression, or is out of bounds, is refused at its place."""
    [(found_pointer, _, found)] = problems_of(template)
    assert found_pointer == pointer
    assert message in found


def test_reports_all_problems_in_template_order() -> None:
    """Every leaf is checked, and several names of one expression are all reported."""
    found = problems_of(
        {"z": "${{ a + b }}", "a": ["${{ 1 + }}", "${{ trigger.ok }}", "x ${{"], "m": {"k": "${{ f() }}"}}
    )
    assert [pointer for pointer, _, _ in found] == ["/z", "/z", "/a/0", "/a/2", "/m/k"]


def test_leaves_say_what_they_read_over_both_branches() -> None:
    """Reads cover both branches, `has`, indexes and defaults; a computed index ends the pointer."""
    selector = compile_selector(
        {
            "style": "${{ has(trigger.audioStyle) ? trigger.audioStyle : steps.plan.output.style }}",
            "n/m": [{"x": '${{ trigger.scenes[0]["a/b"] }}'}, "${{ trigger.scenes[trigger.at].id }}"],
            "deep": "${{ trigger.?mix.?volume.orValue(steps.mix.artifacts[0].sizeBytes) }}",
            "run": "${{ [run.id, change.?payload.orValue(null)] }}",
            "all": "${{ trigger }}",
            "fixed": "text",
        }
    )
    assert {leaf.pointer: leaf.reads for leaf in selector.leaves} == {
        "/style": Reads(trigger=("/audioStyle",), step_outputs=("plan",)),
        "/n~1m/0/x": Reads(trigger=("/scenes/0/a~1b",)),
        "/n~1m/1": Reads(trigger=("/at", "/scenes")),
        "/deep": Reads(trigger=("/mix/volume",), step_artifacts=("mix",)),
        "/run": Reads(is_run_read=True, is_change_read=True),
        "/all": Reads(trigger=("",)),
    }
    assert selector.step_ids == ("mix", "plan")
    assert selector.reads.is_run_read
    assert selector.reads.trigger == ("", "/at", "/audioStyle", "/mix/volume", "/scenes", "/scenes/0/a~1b")


def test_the_canonical_form_ignores_member_order_only() -> None:
    """Two templates are the same definition when they differ in member order or number notation, not otherwise."""
    first = compile_selector({"a": "${{ trigger.x }}", "n": 1})
    assert first.canonical() == compile_selector({"n": 1.0, "a": "${{ trigger.x }}"}).canonical()
    assert first.canonical() != compile_selector({"a": "${{ trigger.y }}", "n": 1}).canonical()
