"""Which part of some bytes a request asks for, and whether it has them already (RFC 9110, sections 13 and 14)."""

import re
from collections.abc import Mapping

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE | re.ASCII)


class UnsatisfiableRangeError(Exception):
    """There are no such bytes."""


def wanted_range(headers: Mapping[str, str], size: int, etag: str) -> tuple[int, int] | None:
    """The part asked for, from a byte up to another, exclusive; None for all of it.

    Several ranges, or what is no range of bytes, count as none: a server may answer with everything.

    Args:
        headers: of the request.
        size: of everything.
        etag: of the bytes as they are; a part of others is not wanted.

    Raises:
        UnsatisfiableRangeError: the range begins behind the end, or is of no bytes.
    """
    asked = _RANGE.fullmatch(headers.get("range", "").strip())
    if asked is None or headers.get("if-range", etag) != etag:
        return None
    first, last = asked.groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise UnsatisfiableRangeError
    return start, end


def is_unchanged(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the reader has the bytes with this tag."""
    known = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
    return etag in known or "*" in known
