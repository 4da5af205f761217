"""Property: canonical bytes are RFC 8785's, parsing is their inverse, and pointers and patches hold together."""

import json
import math
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from runengine_server.domain.canonical_json import (
    JsonProblem,
    NotCanonical,
    canonical_bytes,
    check_limits,
    normalize_numbers,
    parse_json,
)
from runengine_server.domain.json_pointer import changed_pointers, format_pointer, get, parse_pointer
from runengine_server.domain.merge_patch import merge_patch

SETTINGS = settings(max_examples=100, deadline=None)
MAX = 2**53 - 1

INTEGERS = st.integers(-MAX, MAX)
DOUBLES = st.one_of(
    st.floats(-MAX, MAX, allow_nan=False),
    st.floats(-1e-3, 1e-3),
    st.builds(lambda digits, exponent: digits * 10.0**exponent, st.integers(1, 999), st.integers(-12, 12)),
)
# Keys that UTF-16 and code points order differently, and every kind of escape.
TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from('\ufb33\U0001f600\ue000\x00\x1f"\\/\x7f\u2028'))
)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | DOUBLES | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@SETTINGS
@given(value=VALUES)
def test_canonical_bytes_are_those_of_the_reference(value: Any) -> None:
    """Fast path or not, the bytes are those of the rfc8785 package."""
    assert canonical_bytes(value) == rfc8785.dumps(value)


@SETTINGS
@given(number=DOUBLES)
def test_every_double_is_written_as_the_reference_does(number: float) -> None:
    """A double alone, where orjson and ECMAScript notation part, is written as the rfc8785 package does."""
    assert canonical_bytes([number]) == rfc8785.dumps([number])


@SETTINGS
@given(value=VALUES)
def test_parsing_is_the_inverse(value: Any) -> None:
    """Parsing canonical bytes gives the normalised value, and its canonical bytes are the same again."""
    encoded = canonical_bytes(value)
    parsed = parse_json(encoded)
    assert parsed == normalize_numbers(value)
    assert canonical_bytes(parsed) == encoded
    check_limits(parsed)


@SETTINGS
@given(value=VALUES, indent=st.sampled_from([None, 2]), is_ascii=st.booleans())
def test_notation_does_not_matter(value: Any, indent: int | None, is_ascii: bool) -> None:
    """White space, member order and escapes in the text do not change the value read."""
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    assert canonical_bytes(parse_json(text.encode())) == canonical_bytes(value)


@SETTINGS
@given(value=VALUES)
def test_normalised_values_hold_no_integral_double(value: Any) -> None:
    """Normalising turns every integral double into int and changes no value."""
    normalized = normalize_numbers(value)
    assert normalized == value
    pending = [normalized]
    for part in pending:
        assert not isinstance(part, float) or not part.is_integer()
        pending.extend(part.values() if isinstance(part, dict) else part if isinstance(part, list) else [])


@SETTINGS
@given(
    value=VALUES,
    poison=st.sampled_from([math.nan, math.inf, -math.inf, 2**53, -(2**53), 2.0**53, 1e300, "\ud800", b"x", (1,)]),
)
def test_a_poisoned_value_is_refused_with_its_place(value: Any, poison: Any) -> None:
    """Whatever cannot be canonical is refused, and the pointer leads to it."""
    document = {"deep": [value, {"a/b": poison}]}
    with pytest.raises(NotCanonical) as refusal:
        canonical_bytes(document)
    assert refusal.value.pointer == "/deep/1/a~1b"
    with pytest.raises(NotCanonical):
        check_limits(document)


@SETTINGS
@given(
    data=st.one_of(
        st.binary(max_size=40), st.text('{}[]":,0123456789.eE+-\\ud8ntrfalsN \n', max_size=40).map(str.encode)
    )
)
def test_parsing_accepts_no_more_than_others(data: bytes) -> None:
    """Any bytes either parse to what a lenient parser reads too, or are refused as JsonProblem."""
    try:
        value = parse_json(data)
    except JsonProblem:
        return
    assert canonical_bytes(value) == canonical_bytes(orjson.loads(data))


@SETTINGS
@given(left=VALUES, right=VALUES)
def test_changed_pointers_are_empty_only_for_equal_values(left: Any, right: Any) -> None:
    """No pointer means equal canonical bytes, and a value does not differ from itself."""
    pointers = changed_pointers(left, right)
    assert (pointers == []) == (canonical_bytes(left) == canonical_bytes(right))
    assert pointers == sorted(pointers)
    assert changed_pointers(left, parse_json(canonical_bytes(left))) == []


@SETTINGS
@given(tokens=st.lists(TEXTS, max_size=4), leaf=VALUES)
def test_a_pointer_leads_to_what_it_was_made_for(tokens: list[str], leaf: Any) -> None:
    """A formatted pointer parses to its tokens and leads to the value behind them."""
    document = leaf
    for token in reversed(tokens):
        document = {token: document}
    pointer = format_pointer(tokens)
    assert parse_pointer(pointer) == tuple(tokens)
    assert get(document, pointer) == leaf


@SETTINGS
@given(target=VALUES, patch=VALUES)
def test_a_merge_patch_is_idempotent_and_pure(target: Any, patch: Any) -> None:
    """Applying a patch twice is applying it once, and neither argument changes."""
    before = canonical_bytes([target, patch])
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once
    assert canonical_bytes([target, patch]) == before
