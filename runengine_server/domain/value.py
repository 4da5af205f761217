"""Declares the values that every step makes by the dozen: immutable to the type checker, at no price at run time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """A slotted dataclass, compared and hashed by its fields, of which mypy lets nobody assign one.

    For values made for each step. A frozen dataclass calls `object.__setattr__` for every field of every value: the
    26 values of a step took a tenth of an engine's time (docs/adr/0016-values-are-frozen-by-the-type-checker.md). All
    other dataclasses are frozen.
    """
    return dataclass(slots=True, kw_only=kw_only, unsafe_hash=True)
