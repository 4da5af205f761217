"""A skill's schemas are compiled once, refuse what departs from them, and never more than that."""

import logging

import pytest
from jsonschema.protocols import Validator

from runengine_server.domain.json_value import JsonObject
from runengine_server.planner import skill_schema
from runengine_server.planner.skill_schema import SkillSchemas, details, summary

SCHEMA: JsonObject = {
    "type": "object",
    "required": ["title"],
    "properties": {"title": {"type": "string"}, "parts": {"type": "array", "items": {"type": "integer"}}},
}


def test_what_departs_is_named_by_pointer() -> None:
    """Each place has its pointer and what the schema wants, without the value; words and details name the first."""
    problems = SkillSchemas().problems(SCHEMA, {"title": "hunter2", "parts": [1, "s3cret"]})
    assert [(problem.pointer, problem.message) for problem in problems] == [("/parts/1", "must be of type integer")]
    assert summary(problems) == "/parts/1 must be of type integer"
    assert details(problems)["pointer"] == "/parts/1"
    two = SkillSchemas().problems(SCHEMA, {"parts": ["s3cret"]})
    assert summary(two).endswith(" (and 1 more)")
    assert "s3cret" not in str(two) + str(details(two))


def test_schema_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same schema is compiled for the first value only; another one with the same content counts as new."""
    compiled: list[JsonObject] = []
    original = skill_schema.bounded_validator

    def counted(schema: JsonObject) -> Validator:
        compiled.append(schema)
        return original(schema)

    monkeypatch.setattr(skill_schema, "bounded_validator", counted)
    schemas = SkillSchemas()
    for _ in range(3):
        assert not schemas.problems(SCHEMA, {"title": "x"})
    assert len(compiled) == 1
    schemas.problems(dict(SCHEMA), {"title": "x"})
    assert len(compiled) == 2


def test_unusable_schema_refuses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A schema that is broken or refers to elsewhere is not used, and said so once: the skill itself still works."""
    schemas = SkillSchemas()
    for schema in ({"type": "nonsense"}, {"$ref": "https://elsewhere.example/schema"}, {"pattern": "("}):
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert schemas.problems(schema, {}) == schemas.problems(schema, {"a": 1}) == []
        assert len(caplog.records) == 1
