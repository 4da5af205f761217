"""Estimates of message sizes are never far below the truth."""

from google.protobuf.struct_pb2 import Struct

from runengine_server.service.message_size import fitting, json_bytes, parts


def test_json_is_not_underestimated() -> None:
    """The estimate of a value is at least its size as a Struct, also for numbers and non-ASCII text."""
    value = {"numbers": [1, 2.5, True, None] * 50, "ä" * 30: "€" * 100, "deep": {"list": [[], {}, [{"a": "b"}]]}}
    struct = Struct()
    struct.update(value)
    assert struct.ByteSize() <= json_bytes(value) <= 2 * struct.ByteSize()


def test_parts() -> None:
    """Parts hold what fits, in order, and an item that fits nowhere is alone."""
    assert list(parts([1, 2, 3, 9, 1, 1], lambda n: n, 4)) == [[1, 2], [3], [9], [1, 1]]
    assert list(parts([1, 1, 1], lambda n: n, 100, count_max=2)) == [[1, 1], [1]]
    assert list(parts([], len)) == []
    assert fitting([9, 1], lambda n: n, 4) == [9]
    assert fitting([], len) == []
