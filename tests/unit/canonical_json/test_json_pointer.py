"""JSON pointers: the RFC's examples, and what counts as a difference."""

from typing import Any

import pytest

from runengine_server.domain.json_pointer import PointerNotFound, changed_pointers, get, parse_pointer

RFC_DOCUMENT: Any = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", RFC_DOCUMENT),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
    ],
)
def test_follows_the_examples_of_the_rfc(pointer: str, value: Any) -> None:
    """RFC 6901 §5: each pointer leads to the listed value."""
    assert get(RFC_DOCUMENT, pointer) == value


@pytest.mark.parametrize(
    "pointer", ["/bar", "/foo/2", "/foo/-", "/foo/00", "/foo/-1", "/foo/1.0", "/foo/0/x", "/foo/٣"]
)
def test_names_what_does_not_exist(pointer: str) -> None:
    """A key, index or index notation that leads nowhere is PointerNotFound."""
    with pytest.raises(PointerNotFound):
        get(RFC_DOCUMENT, pointer)


@pytest.mark.parametrize("pointer", ["foo", "/a~", "/a~2b"])
def test_refuses_malformed_pointers(pointer: str) -> None:
    """A pointer without leading slash or with a bare tilde is a ValueError."""
    with pytest.raises(ValueError, match="JSON pointer"):
        parse_pointer(pointer)


@pytest.mark.parametrize(
    ("left", "right", "pointers"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, ["/a"]),
        ({"a": None}, {}, ["/a"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3, 4]}}, ["/a/b/1", "/a/b/2"]),
        ({"a": {"b": 1}}, {"a": [1]}, ["/a"]),
        (1, 2, [""]),
        ({"a/b": 1, "m~n": 1}, {"a/b": 2, "m~n": 2}, ["/a~1b", "/m~0n"]),
        ({"z": 1, "a": 1}, {}, ["/a", "/z"]),
    ],
)
def test_lists_the_innermost_differences(left: Any, right: Any, pointers: list[str]) -> None:
    """Differences are named where they are, sorted, and JSON equality decides; the order of arguments does not."""
    assert changed_pointers(left, right) == pointers
    assert changed_pointers(right, left) == pointers


def test_the_list_of_differences_is_capped() -> None:
    """At most `limit` pointers come back, the first in order of index."""
    assert changed_pointers([0] * 100, [1] * 100, limit=3) == ["/0", "/1", "/2"]
    assert len(changed_pointers([0] * 100, [1] * 100)) == 64
