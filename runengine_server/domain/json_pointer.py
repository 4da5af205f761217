"""JSON pointers (RFC 6901): write, read and follow them, and list where two values differ."""

from collections.abc import Iterable, Iterator

from runengine_server.domain.json_value import JsonValue

_CHANGED_POINTERS_MAX = 64


class PointerNotFound(LookupError):  # noqa: N818 - reads as the outcome it is
    """The pointer leads to nothing in this value."""


def escape(token: str) -> str:
    """Return the token as it is written inside a pointer (`~` as `~0`, `/` as `~1`)."""
    if "~" in token or "/" in token:
        return token.replace("~", "~0").replace("/", "~1")
    return token


def unescape(token: str) -> str:
    """Return the token that `escape` was given."""
    return token.replace("~1", "/").replace("~0", "~")


def format_pointer(tokens: Iterable[str | int]) -> str:
    """Return the pointer that leads through these keys and indexes; empty for none of them."""
    return "".join(f"/{escape(str(token))}" for token in tokens)


def parse_pointer(pointer: str) -> tuple[str, ...]:
    """Return the unescaped tokens of a pointer.

    Raises:
        ValueError: the pointer is neither empty nor starts with `/`, or has a `~` that escapes nothing.
    """
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise ValueError("a JSON pointer is empty or starts with '/'")
    tokens = pointer[1:].split("/")
    if any(token.replace("~0", "").replace("~1", "").count("~") for token in tokens):
        raise ValueError("in a JSON pointer '~' is written '~0'")
    return tuple(unescape(token) for token in tokens)


def get(value: JsonValue, pointer: str) -> JsonValue:
    """Return what the pointer leads to.

    Raises:
        PointerNotFound: a key or index on the way does not exist.
        ValueError: the pointer is malformed.
    """
    for token in parse_pointer(pointer):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and _is_index(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            raise PointerNotFound(pointer)
    return value


def overlap(left: str, right: str) -> bool:
    """True when one pointer is the other or leads below it."""
    return left == right or left.startswith(f"{right}/") or right.startswith(f"{left}/")


def changed_pointers(left: JsonValue, right: JsonValue, limit: int = _CHANGED_POINTERS_MAX) -> list[str]:
    """Return the innermost pointers at which the two values differ, sorted, at most `limit`.

    A key or index that only one side has counts as a difference at that key or index. Numbers are compared as
    JSON does (1 equals 1.0, true is not 1). When there are more differences than `limit`, the first ones in
    order of key and index are kept, so that equal arguments always give equal answers.

    Args:
        left: one value.
        right: the other value.
        limit: most pointers to return, 1 or more.
    """
    found: list[str] = []
    for pointer in _differences(left, right, ""):
        found.append(pointer)
        if len(found) >= limit:
            break
    return sorted(found)


def _is_index(token: str) -> bool:
    return token == "0" or (token.isascii() and token.isdigit() and token[0] != "0" and len(token) <= 9)


def _differences(left: JsonValue, right: JsonValue, pointer: str) -> Iterator[str]:
    if left is right:
        return
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            if key in left and key in right:
                yield from _differences(left[key], right[key], f"{pointer}/{escape(key)}")
            else:
                yield f"{pointer}/{escape(key)}"
    elif isinstance(left, list) and isinstance(right, list):
        for index, (ours, theirs) in enumerate(zip(left, right, strict=False)):
            yield from _differences(ours, theirs, f"{pointer}/{index}")
        for index in range(min(len(left), len(right)), max(len(left), len(right))):
            yield f"{pointer}/{index}"
    elif isinstance(left, bool) is not isinstance(right, bool) or left != right:
        yield pointer
