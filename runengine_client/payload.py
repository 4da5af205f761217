"""Carries JSON payloads in and out of protobuf Structs without losing a digit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf import struct_pb2

from runengine_client.errors import FieldViolation, InvalidArgumentError

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
JsonObject = dict[str, JsonValue]

INTEGER_MAX = 2**53 - 1
"""Largest integer whose neighbours a double still tells apart (I-JSON, RFC 7493)."""

DEPTH_MAX = 32
"""The contract's limit; protobuf itself refuses a Struct deeper than 33."""

NODES_MAX = 100_000
"""The contract's limit; it also bounds what YAML aliases can expand to."""

VIOLATIONS_MAX = 20
"""Enough to act on; a broken generator would otherwise list thousands."""


@dataclass(slots=True)
class _Check:
    """Copies a value into plain JSON and notes where it cannot be one."""

    root: str
    violations: list[FieldViolation] = field(default_factory=list)
    nodes: int = 0

    def refuse(self, pointer: str, description: str) -> None:
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(FieldViolation(field=f"{self.root}{pointer}", description=description))

    def copy(self, value: object, pointer: str, depth: int) -> JsonValue:
        self.nodes += 1
        if self.nodes > NODES_MAX:
            if self.nodes == NODES_MAX + 1:
                self.refuse(pointer, f"has more than {NODES_MAX} values")
            return None
        if isinstance(value, Mapping | list | tuple) and depth > DEPTH_MAX:
            self.refuse(pointer, f"is nested deeper than {DEPTH_MAX} levels")
            return None
        match value:
            case None | bool():
                return value
            case int():
                return self._integer(value, pointer)
            case float():
                return self._number(value, pointer)
            case str():
                return self._text(value, pointer)
            case list() | tuple():
                return [self.copy(item, f"{pointer}/{index}", depth + 1) for index, item in enumerate(value)]
            case Mapping():
                return self._object(value, pointer, depth)
        self.refuse(pointer, f"is a {type(value).__name__}, which JSON cannot hold")
        return None

    def _integer(self, value: int, pointer: str) -> int:
        if abs(value) > INTEGER_MAX:
            self.refuse(pointer, "is an integer beyond ±(2^53−1), which would lose digits; send it as a string")
            return 0
        return int(value)

    def _number(self, value: float, pointer: str) -> float:
        if not math.isfinite(value):
            self.refuse(pointer, f"is {value}, which JSON cannot hold")
        return float(value)

    def _text(self, value: str, pointer: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.refuse(pointer, "contains a lone surrogate, which is not valid Unicode text")
        return str(value)

    def _object(self, value: Mapping[object, object], pointer: str, depth: int) -> JsonObject:
        copied: JsonObject = {}
        for key, item in value.items():
            if not isinstance(key, str):
                self.refuse(pointer, f"has the key {key!r}, and keys must be strings")
                continue
            at = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            copied[self._text(key, at)] = self.copy(item, at, depth + 1)
        return copied


def find_violations(value: object, field_path: str) -> tuple[JsonObject, list[FieldViolation]]:
    """A plain JSON copy of an object, and what keeps it from being sent as it is.

    Args:
        value: what should be a JSON object.
        field_path: how the violations name it; JSON pointers follow it.
    """
    if not isinstance(value, Mapping):
        return {}, [FieldViolation(field=field_path, description=f"must be an object, not {type(value).__name__}")]
    check = _Check(field_path)
    copied = check.copy(value, "", 1)
    return (copied if isinstance(copied, dict) else {}), check.violations


def to_struct(payload: Mapping[str, object], field_path: str) -> struct_pb2.Struct:
    """A Struct that holds exactly this payload.

    Args:
        payload: a JSON object; lists may be tuples.
        field_path: the request field it is sent in, for the error.

    Raises:
        InvalidArgumentError: a value is not JSON or would not survive as a double; every one is named by its pointer.
    """
    copied, violations = find_violations(payload, field_path)
    if violations:
        named = "; ".join(f"{violation.field} {violation.description}" for violation in violations)
        raise InvalidArgumentError("VALIDATION_FAILED", f"The payload cannot be sent: {named}", violations=violations)
    return struct_of(copied)


def struct_of(value: JsonObject) -> struct_pb2.Struct:
    """A Struct of an object that is known to be plain JSON."""
    struct = struct_pb2.Struct()
    struct.update(value)
    return struct


def from_struct(struct: struct_pb2.Struct) -> JsonObject:
    """The object a Struct holds; integral numbers within ±(2^53−1) are ints, as the server reads them.

    Keys are sorted: a Struct has no order of its own, and printing one twice should give the same text.
    """
    return {key: _from_value(struct.fields[key]) for key in sorted(struct.fields)}


def _from_value(value: struct_pb2.Value) -> JsonValue:
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= INTEGER_MAX else number
        case "string_value":
            return value.string_value
        case "list_value":
            return [_from_value(item) for item in value.list_value.values]
        case "struct_value":
            return from_struct(value.struct_value)
        case _:
            return None
