"""Messages from the surface's JSON, strictly: what is unknown or of another type is named, all of it at once."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.http.json_writing import Field, json_name, write_enum
from runengine_server.rpc.conversion.problems import Problems

_INT_MAX = {FieldDescriptor.TYPE_INT32: 2**31 - 1, FieldDescriptor.TYPE_INT64: 2**53 - 1}
_MS_MAX = 315_576_000_000 * 1000


def read_message(document: JsonObject, message: Message, problems: Problems, *, without: Iterable[str] = ()) -> None:
    """The message has what the document says.

    Args:
        document: the object; null stands for a member that is not there.
        message: what to fill.
        problems: where unknown members and wrong values are noted.
        without: members that come from elsewhere, by their JSON names: the path.
    """
    _read(document, message, "", problems, frozenset(without))


def read_query(
    parameters: Iterable[tuple[str, str]], message: Message, problems: Problems, *, without: Iterable[str] = ()
) -> None:
    """The message has what the query's parameters say.

    Lists are repeated or comma-separated; maps are `name=key=value`.
    """
    fields = _fields(message.DESCRIPTOR, frozenset(without))
    for name, text in parameters:
        field = fields.get(name)
        if field is None:
            problems.add_json_path(name, _unknown(name, fields, "parameter"))
        elif field.is_repeated and _is_map(field):
            key, equals, value = text.partition("=")
            if equals:
                getattr(message, field.name)[key] = value
            else:
                problems.add_json_path(name, f"write key=value: {name}={key}%3Dvalue")
        elif field.is_repeated:
            for part in text.split(","):
                _append(message, field, part, name, problems)
        else:
            _set(message, field, _typed(field, text), name, problems)


def enum_words(field: Field) -> list[str]:
    """What may be written for an enum's field."""
    return [write_enum(field.enum_type, value.number) for value in field.enum_type.values if value.number]


def _read(document: JsonObject, message: Message, path: str, problems: Problems, without: frozenset[str]) -> None:
    fields = _fields(message.DESCRIPTOR, without)
    for name, value in document.items():
        field, place = fields.get(name), f"{path}{name}"
        if field is None:
            problems.add_json_path(place, _unknown(name, fields, "member"))
        elif value is None:
            continue
        elif not field.is_repeated:
            _set(message, field, value, place, problems)
        elif _is_map(field):
            _read_map(message, field, value, place, problems)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                _append(message, field, item, f"{place}[{index}]", problems)
        else:
            problems.add_json_path(place, f"must be a list, not {_kind(value)}")


def _fields(descriptor: Any, without: frozenset[str]) -> dict[str, Field]:
    return {name: field for field in descriptor.fields if (name := json_name(field)) not in without}


def _unknown(name: str, known: Mapping[str, Field], what: str) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known) or 'none'}"
    return f"is not a {what} of this request; {hint}"


def _is_map(field: Field) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _read_map(message: Message, field: Field, value: JsonValue, place: str, problems: Problems) -> None:
    if not isinstance(value, dict):
        problems.add_json_path(place, f"must be an object, not {_kind(value)}")
        return
    target = getattr(message, field.name)
    for key, text in value.items():
        if isinstance(text, str):
            target[key] = text
        else:
            problems.add_json_path(f"{place}.{key}", f"must be a string, not {_kind(text)}")


def _append(message: Message, field: Field, item: JsonValue, place: str, problems: Problems) -> None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if isinstance(item, dict):
            _read(item, getattr(message, field.name).add(), f"{place}.", problems, frozenset())
        else:
            problems.add_json_path(place, f"must be an object, not {_kind(item)}")
        return
    value = _scalar(field, item, place, problems)
    if value is not None:
        getattr(message, field.name).append(value)


def _set(message: Message, field: Field, value: JsonValue, place: str, problems: Problems) -> None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        read = _MESSAGE_READERS.get(field.message_type.full_name)
        target = getattr(message, field.name)
        if read is not None:
            read(target, value, place, problems)
        elif isinstance(value, dict):
            target.SetInParent()
            _read(value, target, f"{place}.", problems, frozenset())
        else:
            problems.add_json_path(place, f"must be an object, not {_kind(value)}")
        return
    scalar = _scalar(field, value, place, problems)
    if scalar is not None:
        setattr(message, field.name, scalar)


def _scalar(field: Field, value: JsonValue, place: str, problems: Problems) -> Any:
    """The field's value, None with a problem noted."""
    match field.type:
        case FieldDescriptor.TYPE_STRING if isinstance(value, str):
            return value
        case FieldDescriptor.TYPE_BOOL if isinstance(value, bool):
            return value
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64 if _is_integer(value):
            number, most = cast("int", value), _INT_MAX[field.type]
            if abs(number) <= most:
                return number
            problems.add_json_path(place, f"must be between -{most} and {most}")
            return None
        case FieldDescriptor.TYPE_ENUM if isinstance(value, str):
            for known in field.enum_type.values:
                if known.number and write_enum(field.enum_type, known.number) == value:
                    return known.number
            problems.add_json_path(place, f"{value!r} is unknown; choose {_alternatives(enum_words(field))}")
            return None
    problems.add_json_path(place, f"must be {_EXPECTED[field.type]}, not {_kind(value)}")
    return None


def _typed(field: Field, text: str) -> JsonValue:
    """What a parameter's text stands for in JSON; the text itself where it is not of the field's type."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"true": True, "false": False}.get(text, text)
    is_number = field.type in _INT_MAX or json_name(field) != field.json_name
    return int(text) if is_number and text.removeprefix("-").isdecimal() and len(text) < len("-" * 20) else text


def _read_struct(target: Struct, value: JsonValue, place: str, problems: Problems) -> None:
    if isinstance(value, dict):
        target.SetInParent()
        target.update(value)
    else:
        problems.add_json_path(place, f"must be an object, not {_kind(value)}")


def _read_timestamp(target: Timestamp, value: JsonValue, place: str, problems: Problems) -> None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        problems.add_json_path(place, "must be a time with its zone, such as 2026-01-19T10:00:00Z")
        return
    target.FromDatetime(moment)


def _read_duration(target: Duration, value: JsonValue, place: str, problems: Problems) -> None:
    if _is_integer(value) and abs(cast("int", value)) <= _MS_MAX:
        target.FromMilliseconds(cast("int", value))
    else:
        problems.add_json_path(place, f"must be a whole number of milliseconds, not {_kind(value)}")


_MESSAGE_READERS: Mapping[str, Callable[[Any, JsonValue, str, Problems], None]] = {
    "google.protobuf.Struct": _read_struct,
    "google.protobuf.Timestamp": _read_timestamp,
    "google.protobuf.Duration": _read_duration,
}

_EXPECTED = {
    FieldDescriptor.TYPE_STRING: "a string",
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_INT32: "a whole number",
    FieldDescriptor.TYPE_INT64: "a whole number",
    FieldDescriptor.TYPE_ENUM: "a string",
}


def _is_integer(value: JsonValue) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _alternatives(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _kind(value: JsonValue) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f"the string {value!r}" if len(value) <= 40 else "a string"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "an object"
    return "null"
