"""Which JSON Schemas a workflow may have for its payload: a known draft, self-contained, with patterns that compile."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

import regex
from jsonschema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
)
from jsonschema.protocols import Validator

from runengine_server.domain.canonical_json import JsonLimits, check_limits
from runengine_server.domain.json_pointer import PointerNotFound, escape, format_pointer, get
from runengine_server.domain.json_value import JsonObject, JsonProblem, JsonValue

SCHEMA_LIMITS: Final = JsonLimits(bytes_max=64 * 1024, depth_max=32, nodes_max=5_000)

DRAFTS: Final[Mapping[str, type[Validator]]] = {
    "https://json-schema.org/draft/2020-12/schema": Draft202012Validator,
    "https://json-schema.org/draft/2019-09/schema": Draft201909Validator,
    "http://json-schema.org/draft-07/schema": Draft7Validator,
    "http://json-schema.org/draft-06/schema": Draft6Validator,
    "http://json-schema.org/draft-04/schema": Draft4Validator,
}
_DRAFT_DEFAULT: Final = "https://json-schema.org/draft/2020-12/schema"

_PROBLEMS_MAX: Final = 50
_MESSAGE_CHARS_MAX: Final = 200

# Their values are data or names, not schemas.
_DATA: Final = frozenset({"const", "enum", "default", "examples", "required", "dependentRequired"})
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaProblem:
    """One thing wrong with a schema, or with a value under it: where (RFC 6901), and a phrase that says what."""

    pointer: str
    message: str


def schema_draft(schema: JsonObject) -> type[Validator] | None:
    """Return the validator class of the draft a schema declares, 2020-12 without one; None for an unknown draft."""
    declared = schema.get("$schema", _DRAFT_DEFAULT)
    return DRAFTS.get(declared.removesuffix("#")) if isinstance(declared, str) else None


def schema_problems(schema: JsonObject) -> list[SchemaProblem]:
    """Return what is wrong with a schema; empty when payloads can be checked against it.

    A schema comes from a tenant, so references stay inside it: nothing is ever fetched.
    """
    try:
        check_limits(schema, SCHEMA_LIMITS)
    except JsonProblem as error:
        return [SchemaProblem(pointer=error.pointer, message=error.problem)]
    draft = schema_draft(schema)
    if draft is None:
        return [SchemaProblem(pointer="/$schema", message=f"unknown draft; known are {', '.join(DRAFTS)}")]
    against_draft = [
        SchemaProblem(pointer=format_pointer(error.absolute_path), message=error.message[:_MESSAGE_CHARS_MAX])
        for error in islice(draft(draft.META_SCHEMA).iter_errors(schema), _PROBLEMS_MAX)
    ]
    return list(dict.fromkeys(against_draft)) or list(islice(_forbidden(schema), _PROBLEMS_MAX))


def _forbidden(schema: JsonObject) -> Iterator[SchemaProblem]:
    has_unevaluated = has_patterns = False
    for pointer, node in _subschemas(schema, ""):
        for key in ("$schema", "$id", "id"):
            if pointer and isinstance(node.get(key), str):
                yield SchemaProblem(pointer=f"{pointer}/{key}", message="is only allowed at the root of the schema")
        for key in ("$dynamicRef", "$recursiveRef"):
            if key in node:
                yield SchemaProblem(pointer=f"{pointer}/{key}", message="is not supported; use $ref")
        if "$ref" in node and not _is_inside(schema, node["$ref"]):
            message = "must be a JSON pointer into this schema, such as #/$defs/scene, and lead to something"
            yield SchemaProblem(pointer=f"{pointer}/$ref", message=message)
        has_unevaluated = has_unevaluated or "unevaluatedProperties" in node
        has_patterns = has_patterns or "patternProperties" in node
        yield from _bad_patterns(pointer, node)
    if has_unevaluated and has_patterns:
        message = "cannot be combined with unevaluatedProperties here; use additionalProperties"
        yield SchemaProblem(pointer="", message=f"patternProperties {message}")


def _bad_patterns(pointer: str, node: JsonObject) -> Iterator[SchemaProblem]:
    named = node.get("patternProperties")
    patterns: list[tuple[str, JsonValue]] = [(f"{pointer}/pattern", node.get("pattern"))]
    if isinstance(named, dict):
        patterns += [(f"{pointer}/patternProperties/{escape(name)}", name) for name in named]
    for place, pattern in patterns:
        if isinstance(pattern, str):
            try:
                regex.compile(pattern)
            except regex.error as error:
                yield SchemaProblem(pointer=place, message=f"is not a regular expression: {error}")


def _is_inside(schema: JsonObject, reference: JsonValue) -> bool:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return False
    if "%" in reference:
        return False
    try:
        return isinstance(get(schema, reference[1:]), dict | bool)
    except (PointerNotFound, ValueError):
        return False


def _subschemas(node: JsonValue, pointer: str) -> Iterator[tuple[str, JsonObject]]:
    """Every object that is or may be a schema, with its pointer; the depth is bounded by the limits."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _subschemas(item, f"{pointer}/{index}")
    if not isinstance(node, dict):
        return
    yield pointer, node
    for key, value in node.items():
        place = f"{pointer}/{escape(key)}"
        if key in _DATA:
            continue
        if key in _NAMED and isinstance(value, dict):
            for name, child in value.items():
                yield from _subschemas(child, f"{place}/{escape(name)}")
        else:
            yield from _subschemas(value, place)
