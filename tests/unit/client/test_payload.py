"""Payloads reach the wire as they are, or are refused with a pointer."""

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runengine_client.errors import InvalidArgumentError
from runengine_client.payload import DEPTH_MAX, INTEGER_MAX, from_struct, to_struct

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(string.printable), inner, max_size=4)
)


@given(st.dictionaries(st.text(string.printable), VALUES, max_size=5))
def test_round_trip(payload):
    """Whatever JSON is sent is what is read back."""
    assert from_struct(to_struct(payload, "p")) == payload


def test_integers_stay_integers():
    """An integral number within the exact range is read as an int, as the server does."""
    found = from_struct(to_struct({"a": 3.0, "b": INTEGER_MAX, "c": 0.5, "d": 1e300}, "p"))
    assert [type(value) for value in found.values()] == [int, int, float, float]


def nested(depth: int) -> dict[str, object]:
    inner: dict[str, object] = {}
    for _ in range(depth - 1):
        inner = {"a": inner}
    return inner


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [
        ({"a": INTEGER_MAX + 1}, "p/a"),
        ({"a": [-INTEGER_MAX - 1]}, "p/a/0"),
        ({"a/b": {"c~d": math.nan}}, "p/a~1b/c~0d"),
        ({"a": math.inf}, "p/a"),
        ({"a": "\ud800"}, "p/a"),
        ({"a": {1: 2}}, "p/a"),
        ({"a": b"bytes"}, "p/a"),
        (nested(DEPTH_MAX + 1), "p" + "/a" * DEPTH_MAX),
    ],
)
def test_refused(payload, pointer):
    """What a Struct would bend or cannot hold is named by its pointer."""
    with pytest.raises(InvalidArgumentError) as caught:
        to_struct(payload, "p")
    assert [each.field for each in caught.value.violations] == [pointer]


def test_deepest_allowed():
    """The deepest payload of the contract is accepted."""
    assert from_struct(to_struct(nested(DEPTH_MAX), "p")) == nested(DEPTH_MAX)


def test_violations_are_bounded():
    """A payload that is wrong everywhere gives a list a person can read."""
    with pytest.raises(InvalidArgumentError) as caught:
        to_struct({"a": [math.nan] * 1000}, "p")
    assert len(caught.value.violations) == 20
