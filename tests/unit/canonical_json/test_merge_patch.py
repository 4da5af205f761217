"""Merge patches: the RFC's test vectors."""

from typing import Any

import pytest

from runengine_server.domain.merge_patch import merge_patch


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_applies_the_vectors_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    """RFC 7396 appendix A: each patch gives the listed result."""
    assert merge_patch(target, patch) == result


def test_leaves_its_arguments_alone() -> None:
    """Neither target nor patch changes."""
    target: Any = {"a": {"b": 1}}
    patch: Any = {"a": {"b": None, "c": {"d": None, "e": 1}}}
    assert merge_patch(target, patch) == {"a": {"c": {"e": 1}}}
    assert target == {"a": {"b": 1}}
    assert patch == {"a": {"b": None, "c": {"d": None, "e": 1}}}
