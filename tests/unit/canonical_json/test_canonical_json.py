"""Canonical bytes, strict parsing and limits on the cases that have bitten others."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from runengine_server.domain.canonical_json import (
    JsonLimitExceeded,
    JsonLimits,
    JsonMalformed,
    JsonProblem,
    NotCanonical,
    canonical_bytes,
    check_limits,
    content_hash,
    normalize_numbers,
    parse_json,
)

VECTORS = json.loads((Path(__file__).parents[3] / "docs" / "cache-key-vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda vector: vector["name"])
def test_published_vectors_hold(vector: dict[str, str]) -> None:
    """Each published input has the published canonical text and hash, here and in the reference package."""
    encoded = canonical_bytes(parse_json(vector["input"].encode()))
    assert encoded.decode() == vector["canonical"]
    assert content_hash(encoded) == vector["sha256"]
    assert rfc8785.dumps(json.loads(vector["input"])).decode() == vector["canonical"]


@pytest.mark.parametrize("vector", VECTORS["rejected"], ids=lambda vector: vector["name"])
def test_published_rejections_hold(vector: dict[str, str]) -> None:
    """Each published bad input is refused at the published place."""
    with pytest.raises(JsonProblem) as refusal:
        parse_json(vector["input"].encode())
    assert refusal.value.pointer == vector["pointer"]


@pytest.mark.parametrize(
    ("text", "error", "pointer", "problem"),
    [
        (b'{"a":1,"a":1}', JsonMalformed, "/a", "more than once"),
        (b'{"x":[{},{"a/b":{"k":1,"k":2}}]}', JsonMalformed, "/x/1/a~1b/k", "more than once"),
        (b'{"a":{"b":1,"b":2},"a":3}', JsonMalformed, "/a", "more than once"),
        (b'{"\\u0061":1,"a":2}', JsonMalformed, "/a", "more than once"),
        (b'{"a":[1,NaN]}', NotCanonical, "/a/1", "NaN"),
        (b'{"a":-Infinity}', NotCanonical, "/a", "infinite"),
        (b'{"a":1e400}', NotCanonical, "/a", "infinite or too large"),
        (b'{"a":9007199254740992}', NotCanonical, "/a", "2^53"),
        (b'{"a":[-9007199254740992]}', NotCanonical, "/a/0", "2^53"),
        (b'{"a":9007199254740992.0}', NotCanonical, "/a", "2^53"),
        (b'{"a":1e16}', NotCanonical, "/a", "2^53"),
        (b'{"a":' + b"9" * 5_000 + b"}", NotCanonical, "/a", "2^53"),
        (b'{"a":["\\ud800"]}', NotCanonical, "/a/0", "surrogate"),
        (b'{"a":{"\\udc00":1}}', NotCanonical, "/a", "surrogate"),
        (b'{"a":\xff}', JsonMalformed, "", "not UTF-8 at byte 5"),
        (b"\xef\xbb\xbf{}", JsonMalformed, "", ""),
        (b'{"a":1,}', JsonMalformed, "", "line 1, column"),
        (b"", JsonMalformed, "", ""),
        (b"1 2", JsonMalformed, "", "column 3"),
        (b"01", JsonMalformed, "", ""),
        (b'{"a":"\n"}', JsonMalformed, "", ""),
        (b"[" * 33 + b"]" * 33, JsonLimitExceeded, "/0" * 32, "deeper than 32"),
        (b"[" * 100_000, JsonLimitExceeded, "/0" * 32, "deeper than 32"),
        (b'{"[": [[["]"]]], "k/":' + b'{"a":' * 40, JsonLimitExceeded, "/k~1" + "/a" * 31, "deeper than 32"),
        (b"[" + b"0," * 100_000 + b"0]", JsonLimitExceeded, "", "more than 100000"),
        (b'"' + b"x" * 1024 * 1024 + b'"', JsonLimitExceeded, "", "longer than 1048576"),
    ],
)
def test_refuses_what_readers_could_understand_differently(
    text: bytes, error: type[JsonProblem], pointer: str, problem: str
) -> None:
    """Each ambiguous, unrepresentable or oversized text is refused with its place and reason."""
    with pytest.raises(error) as refusal:
        parse_json(text)
    assert refusal.value.pointer == pointer
    assert problem in refusal.value.problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1.0", 1),
        (b"-0", 0),
        (b"-0.0", 0),
        (b"1e3", 1000),
        (b'{"a":[1.0,1.5]}', {"a": [1, 1.5]}),
        (b" \t\r\n[ ] ", []),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'{"a":"}{][","b":"\\""}', {"a": "}{][", "b": '"'}),
        (b"[" * 32 + b"]" * 32, None),
        (b"[" + b"0," * 99_997 + b"0]", None),
    ],
)
def test_reads_numbers_and_text_as_the_specification_says(text: bytes, value: Any) -> None:
    """Integral numbers become int, limits are inclusive, and brackets inside strings do not count."""
    parsed = parse_json(text)
    if value is not None:
        assert (type(parsed), repr(parsed)) == (type(value), repr(value))


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"a": [1, math.nan]}, "/a/1"),
        ({"a": math.inf}, "/a"),
        ({"a": 2**53}, "/a"),
        ({"a": -(2.0**53)}, "/a"),
        ({"a": {1: 2}}, "/a"),
        ({"a": {"\udfff": 2}}, "/a"),
        ({"a": ("tuple",)}, "/a"),
        (["\ud83d"], "/0"),
        (b"bytes", ""),
    ],
)
def test_refuses_values_without_a_canonical_form(value: Any, pointer: str) -> None:
    """A value that RFC 8785 or the number range excludes is refused where it is, by encoding and by the limits."""
    with pytest.raises(NotCanonical) as refusal:
        canonical_bytes(value)
    assert refusal.value.pointer == pointer
    with pytest.raises(NotCanonical):
        check_limits(value)


def test_a_refusal_never_shows_the_value() -> None:
    """Messages name places, not payload data."""
    with pytest.raises(JsonProblem) as refusal:
        canonical_bytes({"a": "secret\ud800"})
    assert "secret" not in str(refusal.value)


def test_key_order_is_that_of_utf16_units() -> None:
    """Member names beyond the basic plane sort by surrogate, not by code point."""
    assert canonical_bytes({"\ufb33": 1, "\U0001f600": 2}) == '{"😀":2,"\ufb33":1}'.encode()


def test_limits_are_checked_on_parsed_values() -> None:
    """Depth, nodes and canonical length bound a parsed value too, cyclic ones included."""
    limits = JsonLimits(bytes_max=20, depth_max=2, nodes_max=5)
    check_limits({"a": [1, 2, 3]}, limits)
    for value, pointer in [({"a": [[]]}, "/a/0"), ([1, 2, 3, 4, 5], ""), (["x" * 17], "")]:
        with pytest.raises(JsonLimitExceeded) as refusal:
            check_limits(value, limits)
        assert refusal.value.pointer == pointer
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    with pytest.raises(JsonLimitExceeded):
        check_limits(cyclic)


def test_normalising_refuses_doubles_that_may_be_rounded_integers() -> None:
    """An integral double beyond ±(2^53−1) is refused, within it becomes int; the argument is not changed."""
    value: Any = {"a": [3.0, 0.5, -0.0, float(2**53 - 1)]}
    assert repr(normalize_numbers(value)) == repr({"a": [3, 0.5, 0, 2**53 - 1]})
    assert repr(value["a"][0]) == "3.0"
    with pytest.raises(NotCanonical) as refusal:
        normalize_numbers({"a": [2.0**53]})
    assert refusal.value.pointer == "/a/0"
