"""Reads protobuf's Struct as the JSON it stands for (whole numbers within ±(2^53−1) are integers), and Duration."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value

from runengine_server.domain.json_pointer import escape
from runengine_server.domain.json_value import INTEGER_MAX, JsonObject, JsonProblem, JsonValue


class ValueMissing(JsonProblem):
    """A Value in a Struct says nothing, which is not JSON's null."""


def object_of(struct: Struct) -> JsonObject:
    """The JSON object a Struct stands for.

    Raises:
        ValueMissing: a Value of it was never set; names the place.
    """
    return _object_of(struct, "")


def seconds_of(duration: Duration) -> float:
    """A duration in seconds, whatever its fields say: ToTimedelta raises for those that no timedelta can hold."""
    return float(duration.seconds + duration.nanos / 1e9)


def _object_of(struct: Struct, pointer: str) -> JsonObject:
    return {key: _value_of(value, f"{pointer}/{escape(key)}") for key, value in struct.fields.items()}


def _value_of(value: Value, pointer: str) -> JsonValue:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= INTEGER_MAX else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _object_of(value.struct_value, pointer)
        case "list_value":
            return [_value_of(item, f"{pointer}/{index}") for index, item in enumerate(value.list_value.values)]
        case "null_value":
            return None
        case _:
            raise ValueMissing(pointer, "has no value")
