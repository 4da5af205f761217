"""What registration refuses: each error has its field path, and all of them come at once."""

from dataclasses import replace
from typing import Any

import pytest

from runengine_server.domain.ids import SkillId, StepId
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.workflow import CachePolicy, ChangeRule, RetryPolicy, StepDefinition, Workflow
from runengine_server.planner.validation import validate_workflow


def step(step_id: str, *depends_on: str, selector: JsonObject | None = None, **others: Any) -> StepDefinition:
    return StepDefinition(
        step_id=StepId(step_id),
        skill_id=SkillId(others.pop("skill_id", "demo.echo")),
        depends_on=tuple(map(StepId, depends_on)),
        input_selector=selector or {},
        **others,
    )


def workflow(*steps: StepDefinition, **others: Any) -> Workflow:
    return replace(Workflow(name="demo", version="1.0.0", steps=steps or (step("a"),)), **others)


def found(wrong: Workflow, offers: frozenset[str] = frozenset({"demo.echo"})) -> dict[str, str]:
    """The violations by field; a field may have one only."""
    violations = validate_workflow(wrong, lambda skill_id: skill_id in offers)
    by_field = {violation.field: violation.description for violation in violations}
    assert len(by_field) == len(violations)
    return by_field


def test_a_good_workflow_has_no_violations() -> None:
    """Everything at its bounds is accepted."""
    good = workflow(
        step("a" * 64, skill_id="d" * 128, timeout_s=7 * 86400.0),
        step(
            "b",
            "a" * 64,
            selector={"x": "${{ steps." + "a" * 64 + ".output.y }}", "z": ["${{ trigger.q }}", 1]},
            cache_policy=CachePolicy(hot_ttl_s=48 * 3600),
            retry_policy=RetryPolicy(max_attempts=20, backoff_ms=1, max_backoff_ms=1, non_retryable_codes=("NO_WAY",)),
        ),
        name="a.b-c_" + "d" * 122,
        change_rules=(
            ChangeRule(type="audio.update", seed_step_ids=("b",)),
            ChangeRule(type="full_rebuild", seed_step_ids=("*",)),
        ),
        trigger_schema={
            "type": "object",
            "properties": {"q": {"$ref": "#/$defs/q"}},
            "$defs": {"q": {"type": "string"}},
        },
        labels={"k" * 63: "v" * 255},
        cache_epoch="2026",
    )
    assert found(good, frozenset({"demo.echo", "d" * 128})) == {}


def test_all_errors_come_at_once() -> None:
    """One answer holds every error of every kind, each at its path."""
    wrong = workflow(
        step("a", "b", selector={"p/q": "${{ steps.c.output }}", "bad": "${{ nope }}"}),
        step("b", "a"),
        step("c", "c", "ghost", "ghost"),
        step("c", skill_id="other.skill"),
        name="Demo:1",
        version="1.0",
        change_rules=(ChangeRule(type="audio.update", seed_step_ids=("a", "ghost")),),
    )
    assert set(found(wrong)) == {
        "workflowName",
        "version",
        "steps[0].dependsOn[0]",
        "steps[0].inputSelector/bad",
        "steps[2].dependsOn[0]",
        "steps[2].dependsOn[1]",
        "steps[2].dependsOn[2]",
        "steps[3].stepId",
        "steps[3].skillId",
        'changeRequests["audio.update"].seedStepIds[1]',
    }


@pytest.mark.parametrize("name", ["", "Demo", "1demo", "de mo", "demo:1", "d" * 129, "demo\n", "dé"])
def test_workflow_names(name: str) -> None:
    """A name outside the pattern is refused; ':' separates the parts of cache keys."""
    assert set(found(workflow(name=name))) == {"workflowName"}


@pytest.mark.parametrize("step_id", ["", "A", "a-b", "a.b", "a:b", "a" * 65, "1a", "a\n"])
def test_step_ids(step_id: str) -> None:
    """A step id outside the pattern is refused."""
    assert set(found(workflow(step(step_id)))) == {"steps[0].stepId"}


@pytest.mark.parametrize("skill_id", ["", "Demo", "a-b", "a:b", "a" * 129])
def test_skill_ids(skill_id: str) -> None:
    """A skill id outside the pattern is refused, and not looked for."""
    assert set(found(workflow(step("a", skill_id=skill_id)), frozenset({skill_id}))) == {"steps[0].skillId"}


def test_a_skill_without_target() -> None:
    """A skill no target pattern matches is named together with its stable code, at every step that uses it."""
    violations = found(workflow(step("a", skill_id="x.y"), step("b"), step("c", skill_id="x.y")))
    assert set(violations) == {"steps[0].skillId", "steps[2].skillId"}
    assert "SKILL_UNREGISTERED" in violations["steps[0].skillId"]
    assert "'x.y'" in violations["steps[0].skillId"]


def test_a_cycle_names_its_steps_in_order() -> None:
    """Each step in the message waits for the next, and the path is that of the first dependency in it."""
    wrong = workflow(step("x"), step("a", "x", "b"), step("b", "c"), step("c", "a"), step("d", "c"))
    violations = found(wrong)
    assert set(violations) == {"steps[1].dependsOn[1]"}
    assert "a → b → c → a" in violations["steps[1].dependsOn[1]"]


def test_separate_cycles_are_all_reported() -> None:
    """Two groups of steps that wait for each other give two violations."""
    wrong = workflow(step("a", "b"), step("b", "a"), step("c", "d"), step("d", "c"))
    assert set(found(wrong)) == {"steps[0].dependsOn[0]", "steps[2].dependsOn[0]"}


def test_a_selector_that_reads_a_step_not_upstream() -> None:
    """The message names the step that is read, and what to add to dependsOn."""
    wrong = workflow(step("a"), step("b"), step("c", "b", selector={"x": ["${{ steps.a.output.v }}"]}))
    violations = found(wrong)
    assert set(violations) == {"steps[2].inputSelector/x/0"}
    assert "add 'a' to dependsOn of 'c'" in violations["steps[2].inputSelector/x/0"]


def test_a_selector_may_read_any_ancestor() -> None:
    """A step far upstream may be read without being a direct dependency; artifacts as well as outputs."""
    far = {"x": "${{ steps.a.output.v }}", "y": "${{ steps.a.artifacts[0].uri }}"}
    assert found(workflow(step("a"), step("b", "a"), step("c", "b", selector=far))) == {}


def test_a_selector_that_reads_what_comes_later() -> None:
    """Adding the dependency would make a cycle, so the message does not advise it."""
    wrong = workflow(step("a", selector={"x": "${{ steps.b.output }}"}), step("b", "a"))
    description = found(wrong)["steps[0].inputSelector/x"]
    assert "runs after 'a'" in description
    assert "dependsOn" not in description


def test_a_selector_that_reads_itself_or_nobody() -> None:
    """A step's own output and an unknown step's are said to be what they are."""
    violations = found(workflow(step("a", selector={"x": "${{ steps.a.output }}", "y": "${{ steps.b.output }}"})))
    assert "itself" in violations["steps[0].inputSelector/x"]
    assert "does not have" in violations["steps[0].inputSelector/y"]


def test_every_problem_of_a_selector() -> None:
    """All leaves that do not parse are reported, with their expression."""
    violations = found(
        workflow(step("a", selector={"x": "${{ 1 + }}", "y": {"z": "${{ foo.bar }}"}, "w": "a ${{ 1 }}"}))
    )
    assert set(violations) == {f"steps[0].inputSelector/{pointer}" for pointer in ("x", "y/z", "w")}
    assert "${{ 1 + }}" in violations["steps[0].inputSelector/x"]


@pytest.mark.parametrize(
    ("policies", "field"),
    [
        ({"retry_policy": RetryPolicy(max_attempts=0)}, "retryPolicy.maxAttempts"),
        ({"retry_policy": RetryPolicy(max_attempts=21)}, "retryPolicy.maxAttempts"),
        ({"retry_policy": RetryPolicy(backoff_ms=0)}, "retryPolicy.backoffMs"),
        ({"retry_policy": RetryPolicy(backoff_ms=2000, max_backoff_ms=1999)}, "retryPolicy.maxBackoffMs"),
        ({"retry_policy": RetryPolicy(max_backoff_ms=24 * 3_600_000 + 1)}, "retryPolicy.maxBackoffMs"),
        ({"retry_policy": RetryPolicy(non_retryable_codes=("OK", "nope"))}, "retryPolicy.nonRetryableCodes[1]"),
        ({"cache_policy": CachePolicy(hot_ttl_s=24 * 3600 - 1)}, "cachePolicy.hotTtl"),
        ({"cache_policy": CachePolicy(hot_ttl_s=48 * 3600 + 1)}, "cachePolicy.hotTtl"),
        ({"timeout_s": 0.0}, "timeout"),
        ({"timeout_s": -1.0}, "timeout"),
        ({"timeout_s": float("nan")}, "timeout"),
        ({"timeout_s": float("inf")}, "timeout"),
        ({"timeout_s": 7 * 86400.0 + 1}, "timeout"),
        ({"description": "\ud800"}, "description"),
    ],
)
def test_bounds_of_a_step(policies: dict[str, Any], field: str) -> None:
    """Policies and times outside their range are refused at their own path."""
    assert set(found(workflow(step("a", **policies)))) == {f"steps[0].{field}"}


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (ChangeRule(type="", seed_step_ids=("a",)), 'changeRequests[""]'),
        (ChangeRule(type="a:b", seed_step_ids=("a",)), 'changeRequests["a:b"]'),
        (ChangeRule(type="x", seed_step_ids=()), 'changeRequests["x"].seedStepIds'),
        (ChangeRule(type="x", seed_step_ids=("a", "a")), 'changeRequests["x"].seedStepIds[1]'),
        (ChangeRule(type="x", seed_step_ids=("a", "*")), 'changeRequests["x"].seedStepIds[1]'),
        (ChangeRule(type="x", seed_step_ids=("b",)), 'changeRequests["x"].seedStepIds[0]'),
    ],
)
def test_change_rules(rule: ChangeRule, field: str) -> None:
    """A rule's type must be a name and its seeds known, distinct steps or the star alone."""
    assert set(found(workflow(change_rules=(rule,)))) == {field}


def test_a_change_type_with_two_rules() -> None:
    """A second rule for a type is refused: which one counts would be a guess."""
    rule = ChangeRule(type="x", seed_step_ids=("a",))
    assert set(found(workflow(change_rules=(rule, rule)))) == {'changeRequests["x"]'}


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"": "v"}, 'labels[""]'),
        ({"k" * 64: "v"}, f'labels["{"k" * 64}"]'),
        ({"k": "v" * 256}, 'labels["k"]'),
        ({"k": "a\0b"}, 'labels["k"]'),
        ({str(n): "" for n in range(65)}, "labels"),
    ],
)
def test_labels(labels: dict[str, str], field: str) -> None:
    """Labels are bounded in number and length, and printable."""
    assert set(found(workflow(labels=labels))) == {field}


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "nonsense"}, "triggerSchema/type"),
        ({"$schema": "https://example.com/mine"}, "triggerSchema/$schema"),
        ({"properties": {"a": {"$ref": "https://example.com/a"}}}, "triggerSchema/properties/a/$ref"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "triggerSchema/properties/a/$ref"),
        ({"properties": {"a": {"pattern": "("}}}, "triggerSchema/properties/a/pattern"),
        ({"const": float("nan")}, "triggerSchema/const"),
    ],
)
def test_trigger_schemas(schema: JsonObject, field: str) -> None:
    """A schema must be one, of a known draft, refer to itself only, and have patterns that compile."""
    assert set(found(workflow(trigger_schema=schema))) == {field}


def test_a_property_may_be_called_like_a_keyword() -> None:
    """Members named $ref, pattern or id under `properties` are properties, and data is not searched for references."""
    schema: JsonObject = {
        "properties": {"$ref": {"type": "string"}, "pattern": {}, "id": {"const": {"$ref": "https://example.com"}}}
    }
    assert found(workflow(trigger_schema=schema)) == {}


def test_size_limits() -> None:
    """No steps, too many of them, too many dependencies and too large a definition are refused, each as that."""
    assert set(found(replace(workflow(), steps=()))) == {"steps"}
    assert "10000" in found(workflow(*(step(f"s{n}") for n in range(10_001))))["steps"]
    assert "100000" in found(workflow(step("a"), step("b", *["a"] * 100_001)))["steps"]
    assert "3 MiB" in found(workflow(description="x" * (3 * 1024 * 1024)))[""]


def test_hostile_text_is_quoted_safely() -> None:
    """Lone surrogates and endless names end up in no message as they are."""
    wrong = workflow(step("a", "\ud800" * 5000), step("b" * 100_000))
    for violation in validate_workflow(wrong, lambda _: True):
        violation.description.encode()
        assert len(violation.field) <= 1_000
        assert len(violation.description) <= 10_000
