"""Between protobuf Structs and JSON values: numbers become exact, limits are checked, places are named."""

from collections.abc import Iterator
from typing import cast

from google.protobuf import struct_pb2

from runengine_server.domain.canonical_json import DEFAULT_LIMITS, check_limits, normalize_numbers
from runengine_server.domain.errors import ExhaustedError
from runengine_server.domain.json_limits import check_shape
from runengine_server.domain.json_pointer import escape
from runengine_server.domain.json_value import JsonLimitExceeded, JsonObject, JsonProblem, JsonValue
from runengine_server.rpc.conversion.problems import Problems, json_path

_NUMBER_ADVICE = (
    "every number must be finite and within ±(2^53−1); send a larger one as a string, and null or nothing for NaN"
)
_NO_VALUE = "has no value: every google.protobuf.Value must say its kind; set null_value for null"


class _NoValueError(Exception):
    """A Value says nothing, which is not JSON's null."""


def read_object(struct: struct_pb2.Struct, field: str, problems: Problems) -> JsonObject:
    """The object a Struct holds, integral doubles as ints; an empty one when a problem was noted instead.

    Args:
        struct: as it came; its numbers are doubles.
        field: the path of the field it came in; pointers follow it in problems.
        problems: where numbers that are not exact, and values that were never set, are noted.

    Raises:
        ExhaustedError: PAYLOAD_TOO_LARGE: more than 1 MiB, 100,000 values or 32 levels.
    """
    try:
        value: JsonValue = _object(struct)
    except _NoValueError:
        for pointer in _pointers_without_value(struct):
            problems.add(f"{field}{pointer}", _NO_VALUE)
        return {}
    try:
        check_shape(value, DEFAULT_LIMITS)
        value = normalize_numbers(value)
        check_limits(value)
    except JsonLimitExceeded as excess:
        path = json_path(field)
        raise ExhaustedError(
            "PAYLOAD_TOO_LARGE",
            f"{path}{excess.pointer} is {excess.problem}; publish large data as an artifact and send its URI",
            metadata={"field": path, "subject": path},
        ) from excess
    except JsonProblem as problem:
        problems.add(f"{field}{problem.pointer}", f"{problem.problem}: {_NUMBER_ADVICE}")
        return {}
    return value if isinstance(value, dict) else {}


def plain_object(struct: struct_pb2.Struct) -> JsonObject:
    """The object a Struct of our own holds, integral doubles as ints."""
    return cast("JsonObject", normalize_numbers(_object(struct)))


def struct_of(value: JsonObject | None) -> struct_pb2.Struct | None:
    """A Struct of an object; None stays None, an empty object becomes an empty Struct."""
    if value is None:
        return None
    struct = struct_pb2.Struct()
    struct.update(value)
    return struct


def struct_of_any(value: JsonValue) -> struct_pb2.Struct | None:
    """A Struct of any value: the wire has only objects, so another kind is shown as the member `value` of one."""
    return struct_of(value if value is None or isinstance(value, dict) else {"value": value})


def _object(struct: struct_pb2.Struct) -> JsonObject:
    return {key: _value(value) for key, value in struct.fields.items()}


def _value(value: struct_pb2.Value) -> JsonValue:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _object(value.struct_value)
        case "list_value":
            return [_value(item) for item in value.list_value.values]
        case "null_value":
            return None
        case _:
            raise _NoValueError


def _pointers_without_value(struct: struct_pb2.Struct) -> Iterator[str]:
    pending = [(f"/{escape(key)}", value) for key, value in struct.fields.items()]
    for pointer, value in pending:
        match value.WhichOneof("kind"):
            case None:
                yield pointer
            case "struct_value":
                pending += [(f"{pointer}/{escape(key)}", item) for key, item in value.struct_value.fields.items()]
            case "list_value":
                pending += [(f"{pointer}/{index}", item) for index, item in enumerate(value.list_value.values)]
