"""Reads fields of a JSON document and collects everything that is wrong, so that one pass reports all."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from google.protobuf import duration_pb2, struct_pb2

from runengine_client.conversion import wire_number
from runengine_client.errors import FieldViolation, InvalidArgumentError
from runengine_client.payload import find_violations, struct_of
from runengine_client.workflow.durations import parse_duration
from runengine_client.workflow.positions import PlacedViolation

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)

INT32_MAX = 2**31 - 1


class WorkflowDocumentError(InvalidArgumentError):
    """A workflow document cannot be read; `violations` names every field, `source` the file (empty without one)."""

    def __init__(self, violations: Sequence[FieldViolation], source: str = "") -> None:
        """Say what is wrong, one line each."""
        lines = "".join(f"\n  {_where(each)}{each.field}: {each.description}" for each in violations)
        count = f"{len(violations)} error{'s' if len(violations) != 1 else ''}"
        super().__init__(
            "WORKFLOW_INVALID",
            f"{source or 'Workflow'}: {count}{lines}",
            violations=violations,
            metadata={"source": source} if source else {},
        )
        self.source = source

    def __str__(self) -> str:
        """The message; its lines say more than the reason would."""
        return self.message


def _where(violation: FieldViolation) -> str:
    if not isinstance(violation, PlacedViolation) or not violation.line:
        return ""
    return f"{violation.line}:{violation.column} "


class Fields:
    """One object of a document: hands out its fields by kind, and notes what is missing, wrong or unknown.

    For a field that is absent or wrong every method returns what the contract reads as unset; a wrong one is noted.
    """

    def __init__(self, value: object, path: str, violations: list[FieldViolation]) -> None:
        """Stand on the object at `path`; something else there is noted and read as empty."""
        self._path = path
        self._violations = violations
        self._used: list[str] = []
        self._values: dict[str, object] = {}
        self._is_object = isinstance(value, Mapping)
        if isinstance(value, Mapping):
            self._values = {str(key): item for key, item in value.items()}
        else:
            self._refuse(path or "document", f"must be an object, not {kind_of(value)}")

    def text(self, key: str, *, is_required: bool = False) -> str:
        """A string; a required one is not empty."""
        value = self._take(key)
        if isinstance(value, str) and (value or not is_required):
            return value
        if value is not None and not isinstance(value, str):
            hint = "; put it in quotes" if isinstance(value, int | float) else ""
            self._refuse(self.path(key), f"must be a string, not {kind_of(value)}{hint}")
        elif is_required and self._is_object:
            self._refuse(self.path(key), "is required")
        return ""

    def integer(self, key: str, *, least: int) -> int:
        """A whole number that fits 32 bits."""
        value = self._take(key)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(self.path(key), f"must be a whole number, not {kind_of(value)}")
            return 0
        if not least <= value <= INT32_MAX:
            self._refuse(self.path(key), f"must be {least} to {INT32_MAX}, not {value}")
            return 0
        return value

    def boolean(self, key: str, *, default: bool = False) -> bool:
        """True or false; the default where the document says nothing."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._refuse(self.path(key), f"must be true or false, not {kind_of(value)}")
        return value is True

    def choice(self, key: str, wire: "_EnumTypeWrapper[V]") -> V:
        """One of an enum's words, in lower or upper case."""
        value = self._take(key)
        if value is None or isinstance(value, str):
            try:
                return wire_number(wire, value)
            except ValueError as error:
                self._refuse(self.path(key), str(error))
        else:
            self._refuse(self.path(key), f"must be a string, not {kind_of(value)}")
        return wire_number(wire, None)

    def duration(self, key: str) -> duration_pb2.Duration | None:
        """A text such as "60s", as a message; above zero."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self._refuse(self.path(key), f'must be a duration such as "60s", not {kind_of(value)}')
            return None
        try:
            span = parse_duration(value)
        except ValueError as error:
            self._refuse(self.path(key), str(error))
            return None
        if span <= timedelta(0):
            self._refuse(self.path(key), "must be above zero")
        message = duration_pb2.Duration()
        message.FromTimedelta(span)
        return message

    def texts(self, key: str) -> list[str]:
        """A list of strings."""
        value = self._take(key)
        return [] if value is None else read_texts(value, self.path(key), self._violations)

    def text_map(self, key: str) -> dict[str, str]:
        """An object of strings."""
        found: dict[str, str] = {}
        for name, path, value in self.entries(key):
            if isinstance(value, str):
                found[name] = value
            else:
                self._refuse(path, f"must be a string, not {kind_of(value)}")
        return found

    def struct(self, key: str) -> struct_pb2.Struct | None:
        """Any JSON object, as a message."""
        value = self._take(key)
        if value is None:
            return None
        copied, violations = find_violations(value, self.path(key))
        self._violations.extend(violations)
        return struct_of(copied)

    def nested(self, key: str) -> "Fields | None":
        """An object with fields of its own."""
        value = self._take(key)
        return None if value is None else Fields(value, self.path(key), self._violations)

    def list_of(self, key: str) -> "Iterator[Fields]":
        """A list of objects; it must be there."""
        value = self._take(key)
        if not isinstance(value, list | tuple):
            if self._is_object:
                wrong = "is required" if value is None else f"must be a list, not {kind_of(value)}"
                self._refuse(self.path(key), wrong)
            return
        for index, item in enumerate(value):
            yield Fields(item, f"{self.path(key)}[{index}]", self._violations)

    def entries(self, key: str) -> list[tuple[str, str, object]]:
        """The name, path and value of each entry of an object."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, Mapping):
            self._refuse(self.path(key), f"must be an object, not {kind_of(value)}")
            return []
        return [(str(name), f"{self.path(key)}[{name}]", item) for name, item in value.items()]

    def finish(self) -> None:
        """Note every key that nobody asked for."""
        for key in self._values:
            if key in self._used:
                continue
            near = difflib.get_close_matches(key, self._used, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(self._used)}"
            self._refuse(self.path(key), f"is not a known key{hint}")

    def path(self, key: str) -> str:
        """Where a key of this object is in the document."""
        return f"{self._path}.{key}" if self._path else key

    def _take(self, key: str) -> object:
        self._used.append(key)
        return self._values.get(key)

    def _refuse(self, path: str, description: str) -> None:
        self._violations.append(FieldViolation(field=path, description=description))


def read_texts(value: object, path: str, violations: list[FieldViolation]) -> list[str]:
    """The strings of a list; what is not one is noted."""
    if not isinstance(value, list | tuple):
        violations.append(FieldViolation(field=path, description=f"must be a list of strings, not {kind_of(value)}"))
        return []
    for index, item in enumerate(value):
        if not isinstance(item, str):
            description = f"must be a string, not {kind_of(item)}"
            violations.append(FieldViolation(field=f"{path}[{index}]", description=description))
    return [item for item in value if isinstance(item, str)]


def kind_of(value: object) -> str:
    """What JSON calls a value of this kind, with the value where it is short."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
        case _:
            return f"a {type(value).__name__}"
