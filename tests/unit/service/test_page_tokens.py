"""Page sizes and tokens."""

import base64

import orjson
import pytest

from runengine_server.domain.errors import InvalidError
from runengine_server.service.page_tokens import decode_page_token, encode_page_token, page_size

WHERE = {"list": "runs", "tenant": "acme", "labels": {"b": 1, "a": 2}}


@pytest.mark.parametrize(("requested", "expected"), [(0, 50), (1, 1), (500, 500), (501, 500), (2**31, 500)])
def test_page_size(requested: int, expected: int) -> None:
    """0 means 50, and more than 500 means 500."""
    assert page_size(requested) == expected


def test_negative_page_size() -> None:
    """A negative page size is refused, naming the field."""
    with pytest.raises(InvalidError) as refused:
        page_size(-1)
    assert refused.value.reason == "VALIDATION_FAILED"
    assert refused.value.violations[0].field == "pageSize"


def test_round_trip() -> None:
    """A token gives its position back with the same filter, whatever the order of the filter's members."""
    token = encode_page_token([12, -1], WHERE)
    same = {"tenant": "acme", "labels": {"a": 2, "b": 1}, "list": "runs"}
    assert decode_page_token(token, same, 2) == (12, -1)
    assert "=" not in token
    assert decode_page_token("", WHERE, 2) is None


def _token(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode()


@pytest.mark.parametrize(
    "token",
    [
        "?",
        "zzzz",
        "ä",
        "A" * 513,
        _token([]),
        _token({"a": 1}),
        _token(["digest"]),
        _token(["digest", "1"]),
        _token(["digest", True]),
        _token(["digest", 2**63]),
        _token(["digest", 1.5]),
        _token(["digest", 1]),
        encode_page_token([1], {**WHERE, "tenant": "other"}),
        encode_page_token([1, 2], WHERE),
    ],
)
def test_other_tokens(token: str) -> None:
    """What is no token, or one of another list or filter, is refused as PAGE_TOKEN_INVALID."""
    with pytest.raises(InvalidError) as refused:
        decode_page_token(token, WHERE, 1)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"
