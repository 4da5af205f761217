"""Messages as the surface's JSON: camelCase, enums in lower case without prefix, durations as `…Ms`, exact numbers."""

from collections.abc import Iterator
from datetime import UTC
from typing import Any, TypeAlias, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.rpc.conversion.json_struct import plain_object

Field: TypeAlias = Any
EnumType: TypeAlias = Any
"""Descriptors: protobuf has each of them in two types, which its stubs do not join."""


def write_message(message: Message) -> JsonObject:
    """The message as JSON: numbers and bools always, empty texts, lists and unset messages never."""
    return dict(_members(message))


def write_enum(descriptor: EnumType, number: int) -> str:
    """The value's name in lower case without the enum's prefix; the number where this server does not know it."""
    value = descriptor.values_by_number.get(number)
    return str(number) if value is None else value.name.removeprefix(enum_prefix(descriptor)).lower()


def enum_prefix(descriptor: EnumType) -> str:
    """What every value's name begins with, such as RUN_STATUS_; by the contract's lint rule the zero value tells it."""
    return str(descriptor.values_by_number[0].name).removesuffix("UNSPECIFIED")


def json_name(field: Field) -> str:
    """The member's name; a duration's tells its unit."""
    is_duration = field.message_type is not None and field.message_type is Duration.DESCRIPTOR
    return f"{field.json_name}Ms" if is_duration else str(field.json_name)


def _members(message: Message) -> Iterator[tuple[str, JsonValue]]:
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if not _is_nothing(field, value):
            yield json_name(field), _field(field, value)


def _is_nothing(field: Field, value: Any) -> bool:
    if field.is_repeated or field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return not value
    return bool(field.type == FieldDescriptor.TYPE_ENUM and value == 0)


def _field(field: Field, value: Any) -> JsonValue:
    if not field.is_repeated:
        return _single(field, value)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {str(key): str(text) for key, text in value.items()}
    return [_single(field, item) for item in value]


def _single(field: Field, value: Any) -> JsonValue:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return write_enum(field.enum_type, value)
    match value:
        case Struct():
            return plain_object(value)
        case Timestamp():
            return value.ToDatetime(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case Duration():
            return value.ToMilliseconds()
        case Message():
            return write_message(value)
    return cast("JsonValue", value)
