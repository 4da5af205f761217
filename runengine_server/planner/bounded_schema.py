"""Checks a JSON value against a JSON Schema in bounded time, and says where it departs without repeating it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Final

import orjson
import regex
from jsonschema import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry

from runengine_server.domain.canonical_json import canonical_bytes
from runengine_server.domain.json_pointer import format_pointer
from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.planner.payload_schema import SchemaProblem, schema_draft

CHECK_S_MAX: Final = 1.0
DEPARTURES_MAX: Final = 50

_EXPECTED_CHARS_MAX: Final = 160
_NAMES_MAX: Final = 5
_NAME_CHARS_MAX: Final = 64

_Check = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


class _TooLong(Exception):  # noqa: N818 - internal; becomes a violation
    """The check does not end in time."""


@dataclass(frozen=True, slots=True)
class _Deadline:
    """When the check that runs has to end, on the monotonic clock."""

    at_s: float

    def remaining_s(self) -> float:
        """Seconds left.

        Raises:
            _TooLong: none.
        """
        left = self.at_s - time.monotonic()
        if left <= 0:
            raise _TooLong
        return left


_deadline: ContextVar[_Deadline] = ContextVar("schema check deadline")


def bounded_validator(schema: JsonObject) -> Validator:
    """Return a validator for a schema that passed registration; it fetches nothing and keeps to a deadline."""
    draft = schema_draft(schema)
    if draft is None:
        raise ValueError("the schema was never validated: unknown draft")
    # With a `$schema` in it jsonschema would leave our class for the draft's own while it descends.
    content = {key: value for key, value in schema.items() if key != "$schema"}
    return _bounded_draft(draft)(content, registry=Registry())


def departures(validator: Validator, value: JsonObject, *, seconds_max: float = CHECK_S_MAX) -> list[SchemaProblem]:
    """Return where a value departs from the schema, at most `DEPARTURES_MAX` places, by pointer into the value."""
    token = _deadline.set(_Deadline(time.monotonic() + seconds_max))
    try:
        errors = islice(validator.iter_errors(value), DEPARTURES_MAX)
        return list(dict.fromkeys(_departure(error) for error in errors))
    except (_TooLong, TimeoutError):
        message = f"takes more than {seconds_max:g} s to check; simplify the schema or send less"
    except RecursionError:
        message = "cannot be checked: the schema refers to itself without end"
    finally:
        _deadline.reset(token)
    return [SchemaProblem(pointer="", message=message)]


@cache
def _bounded_draft(draft: type[Validator]) -> type[Validator]:
    """The draft's class with keywords that watch the deadline, and those that could take very long replaced."""
    replaced: Mapping[str, _Check] = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    }
    checks = {keyword: _timed(replaced.get(keyword, check)) for keyword, check in draft.VALIDATORS.items()}
    bounded: type[Validator] = extend(draft, validators=checks)  # type: ignore[no-untyped-call]
    return bounded


def _timed(check: _Check) -> _Check:
    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
        _deadline.get().remaining_s()
        return check(validator, value, instance, schema)

    return run


def _matches(pattern: str, text: str) -> bool:
    """Search a pattern; unlike `re`, this one can be told when to stop backtracking."""
    return regex.search(pattern, text, timeout=_deadline.get().remaining_s()) is not None


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError("no match")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if _matches(pattern, name):
                    yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extras = [n for n in instance if n not in known and not any(_matches(pattern, n) for pattern in patterns)]
    if isinstance(allowed, dict):
        for name in extras:
            yield from validator.descend(instance[name], allowed, path=name)
    elif allowed is False and extras:
        names = ", ".join(repr(name[:_NAME_CHARS_MAX]) for name in extras[:_NAMES_MAX])
        more = f" and {len(extras) - _NAMES_MAX} more" if len(extras) > _NAMES_MAX else ""
        yield ValidationError(f"has members that the schema does not allow: {names}{more}")


def _unique_items(validator: Any, is_required: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """By canonical form: linear, where jsonschema compares every two items that cannot be sorted."""
    if not is_required or not isinstance(instance, list):
        return
    if len({canonical_bytes(item) for item in instance}) < len(instance):
        yield ValidationError("equal items")


def _departure(error: ValidationError) -> SchemaProblem:
    pointer = format_pointer(error.absolute_path)
    value: Any = error.validator_value
    if not error.validator:  # the schema is just `false`
        return SchemaProblem(pointer=pointer, message="must not be there")
    if error.validator == "required" and isinstance(value, list) and isinstance(error.instance, dict):
        missing = ", ".join(repr(name) for name in value if name not in error.instance)
        return SchemaProblem(pointer=pointer, message=f"lacks {missing}")
    if error.validator == "type":
        return SchemaProblem(pointer=pointer, message=f"must be of type {_types(value)}")
    if error.validator == "additionalProperties":
        return SchemaProblem(pointer=pointer, message=error.message)
    expected = orjson.dumps(value).decode()
    if len(expected) > _EXPECTED_CHARS_MAX:
        expected = expected[: _EXPECTED_CHARS_MAX - 1] + "…"
    return SchemaProblem(pointer=pointer, message=f"must satisfy {error.validator}: {expected}")


def _types(value: JsonValue) -> str:
    return " or ".join(str(name) for name in value) if isinstance(value, list) else str(value)
