"""Values of a step: compared by their fields, closed to others, and immutable to the type checker."""

import pytest

from runengine_server.domain.value import value


@value()
class Point:
    x: int
    y: int = 0


@value(kw_only=True)
class Named:
    name: str


def test_values_are_compared_and_hashed_by_their_fields() -> None:
    """Equal fields make equal values, also as members of sets."""
    assert Point(1) == Point(1, 0) != Point(2)
    assert {Point(1), Point(1, 0)} == {Point(1)}


def test_values_have_no_other_attributes() -> None:
    """A misspelt field is an error, not a new attribute."""
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]


def test_the_type_checker_lets_nobody_assign() -> None:
    """Were it to stop, it would complain of an ignore that nothing needs."""
    point = Point(1)
    point.x = 2  # type: ignore[misc]
    assert point == Point(2)


def test_values_may_want_names() -> None:
    """With kw_only, fields are given by name alone."""
    with pytest.raises(TypeError):
        Named("a")  # type: ignore[call-arg]
