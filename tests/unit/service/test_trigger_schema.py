"""A payload is checked against its workflow's schema: by pointer, without repeating data, and never for long."""

import pytest

from runengine_server.domain.errors import InvalidError
from runengine_server.domain.ids import SkillId, StepId, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.planner.bounded_schema import bounded_validator, departures
from runengine_server.service.trigger_schema import check_payload_schema

SCHEMA: JsonObject = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["brief", "style"],
    "additionalProperties": False,
    "properties": {
        "brief": {"$ref": "#/$defs/brief"},
        "style": {"enum": ["dark", "light"]},
        "tags": {"type": "array", "uniqueItems": True, "items": {"type": ["string", "null"]}},
    },
    "$defs": {"brief": {"type": "object", "properties": {"title": {"type": "string", "maxLength": 3}}}},
}


def workflow(schema: JsonObject | None, digest: str = "") -> Workflow:
    steps = (StepDefinition(step_id=StepId("a"), skill_id=SkillId("demo.echo")),)
    return Workflow(name="demo", version="1.0.0", steps=steps, trigger_schema=schema, digest=WorkflowDigest(digest))


def refused(schema: JsonObject, payload: JsonObject) -> dict[str, str]:
    """The departures by pointer."""
    violations = departures(bounded_validator(schema), payload)
    return {violation.pointer: violation.message for violation in violations}


def test_a_payload_that_conforms_passes() -> None:
    """Nothing is raised with the schema satisfied, or without a schema."""
    check_payload_schema(workflow(SCHEMA, "1" * 64), {"brief": {"title": "abc"}, "style": "dark", "tags": ["a", None]})
    check_payload_schema(workflow(None), {"any": "thing"})


def test_every_departure_has_its_pointer() -> None:
    """Each place is reported once, in words that say what the schema wants."""
    payload: JsonObject = {"brief": {"title": "secret"}, "style": "dark", "tags": ["a", 1, "a"], "a/b": 1}
    assert refused(SCHEMA, payload) == {
        "": "has members that the schema does not allow: 'a/b'",
        "/brief/title": "must satisfy maxLength: 3",
        "/tags": "must satisfy uniqueItems: true",
        "/tags/1": "must be of type string or null",
    }


def test_a_missing_member_is_named() -> None:
    """What is required and absent is named at the object that lacks it."""
    assert refused(SCHEMA, {"style": "dark"}) == {"": "lacks 'brief'"}


def test_the_error_has_the_stable_reason_and_no_data() -> None:
    """PAYLOAD_SCHEMA_MISMATCH carries the violations and says nothing of what the payload holds."""
    with pytest.raises(InvalidError) as caught:
        check_payload_schema(workflow(SCHEMA, "2" * 64), {"brief": {"title": "hunter2"}, "style": "s3cret"})
    assert caught.value.reason == "PAYLOAD_SCHEMA_MISMATCH"
    assert {violation.field for violation in caught.value.violations} == {
        "triggerPayload/brief/title",
        "triggerPayload/style",
    }
    told = str(caught.value) + str(caught.value.violations)
    assert "hunter2" not in told
    assert "s3cret" not in told


def test_schemas_of_different_workflows_are_not_mixed_up() -> None:
    """What is compiled is kept by digest, and not at all without one."""
    for digest in ("3" * 64, ""):
        check_payload_schema(workflow({"required": ["a"]}, digest), {"a": 1})
    check_payload_schema(workflow({"required": ["b"]}, "4" * 64), {"b": 1})
    check_payload_schema(workflow({"required": ["b"]}, ""), {"b": 1})


def test_patterns_apply_to_values_and_names() -> None:
    """`pattern`, `patternProperties` and `additionalProperties` mean what JSON Schema says."""
    schema: JsonObject = {
        "patternProperties": {"^n_": {"type": "integer"}},
        "properties": {"code": {"pattern": "^[A-Z]+$"}},
        "additionalProperties": {"type": "string"},
    }
    assert refused(schema, {"n_a": 1, "code": "ABC", "other": "x"}) == {}
    assert set(refused(schema, {"n_a": "x", "code": "abc", "other": 1})) == {
        "/n_a",
        "/code",
        "/other",
    }


def twice(name: str) -> JsonObject:
    return {"allOf": [{"$ref": f"#/$defs/{name}"}, {"$ref": f"#/$defs/{name}"}]}


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        # 2^30 evaluations of nothing
        ({**twice("a0"), "$defs": {**{f"a{n}": twice(f"a{n + 1}") for n in range(30)}, "a30": {}}}, {}),
        # a pattern that backtracks cubically or worse
        ({"properties": {"a": {"pattern": "^(.*)x(.*)x(.*)x(.*)x(.*)\\1y$"}}}, {"a": "x" * 3000}),
        ({"patternProperties": {"^(.*)x(.*)x(.*)x(.*)x(.*)\\1y$": False}}, {"x" * 3000: 1}),
    ],
)
def test_a_check_that_would_not_end_is_stopped(schema: JsonObject, payload: JsonObject) -> None:
    """Past its deadline the payload is refused, whatever keeps the check busy."""
    violations = departures(bounded_validator(schema), payload, seconds_max=0.05)
    assert [violation.pointer for violation in violations] == [""]
    assert "to check" in violations[0].message


def test_a_schema_that_refers_to_itself_without_end() -> None:
    """Endless recursion is an answer, not a crash; recursion that the payload ends is fine."""
    assert "without end" in refused({"$ref": "#"}, {})[""]
    tree: JsonObject = {"properties": {"child": {"$ref": "#"}, "n": {"type": "integer"}}}
    assert set(refused(tree, {"child": {"child": {"n": "x"}}})) == {"/child/child/n"}


def test_unique_items_of_objects_take_linear_time() -> None:
    """20,000 distinct objects, which jsonschema would compare pair by pair, are done within the deadline."""
    items: list[JsonObject] = [{"id": number} for number in range(20_000)]
    assert refused({"properties": {"a": {"uniqueItems": True}}}, {"a": items}) == {}  # type: ignore[dict-item]
