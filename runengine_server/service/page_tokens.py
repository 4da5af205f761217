"""Page sizes, and page tokens that say where to go on and only work with the filter they were made for."""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import cast

import orjson

from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.json_value import JsonValue

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500

TOKEN_LENGTH_MAX = 512
_DIGEST_BYTES = 12


def page_size(requested: int) -> int:
    """How many items a page has: 50 for 0, at most 500.

    Raises:
        InvalidError: VALIDATION_FAILED for a negative size.
    """
    if requested < 0:
        raise InvalidError(
            "VALIDATION_FAILED",
            f"pageSize is {requested}; use 0 for {PAGE_SIZE_DEFAULT} or a number up to {PAGE_SIZE_MAX}",
            violations=[FieldViolation(field="pageSize", description="must not be negative")],
        )
    return min(requested, PAGE_SIZE_MAX) or PAGE_SIZE_DEFAULT


def encode_page_token(position: Sequence[int], where: Mapping[str, JsonValue]) -> str:
    """A token that continues after a position, bound to the filter `where` (tenant and kind of list included)."""
    data = orjson.dumps([_digest(where), *position])
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode_page_token(token: str, where: Mapping[str, JsonValue], length: int) -> tuple[int, ...] | None:
    """The position of `length` numbers to continue after; None for the empty token, the first page.

    Raises:
        InvalidError: PAGE_TOKEN_INVALID, when it is no token or was made for another filter.
    """
    if not token:
        return None
    try:
        if len(token) > TOKEN_LENGTH_MAX:
            raise ValueError
        padded = token + "=" * (-len(token) % 4)
        fields = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise _invalid("is not one of this server's") from None
    if not _is_token(fields, length):
        raise _invalid("is not one of this list's")
    if fields[0] != _digest(where):
        raise _invalid("belongs to a request with another filter")
    return tuple(cast("list[int]", fields[1:]))


def _is_token(fields: object, length: int) -> bool:
    return (
        isinstance(fields, list)
        and len(fields) == length + 1
        and isinstance(fields[0], str)
        and all(type(number) is int and -1 <= number < 2**63 for number in fields[1:])
    )


def _digest(where: Mapping[str, JsonValue]) -> str:
    data = orjson.dumps(where, option=orjson.OPT_SORT_KEYS)
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()[:_DIGEST_BYTES]).decode()


def _invalid(why: str) -> InvalidError:
    return InvalidError(
        "PAGE_TOKEN_INVALID",
        f"the page token {why}; start again without one, or repeat the request it came from",
        violations=[FieldViolation(field="pageToken", description=why)],
    )
