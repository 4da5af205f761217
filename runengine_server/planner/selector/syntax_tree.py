"""The syntax tree of an expression: what the parser yields, and analysis and compilation walk."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A null, boolean, number or string."""

    at: int
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A bare identifier, which only the four names in scope may be."""

    at: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """`.name` or `.?name` after an expression."""

    at: int
    name: str
    is_optional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """`[index]` or `[?index]` after an expression."""

    at: int
    index: "Expression"
    is_optional: bool


Segment: TypeAlias = Field | Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Fields and indexes followed from a base; `default` is the argument of `.orValue` when a segment is optional."""

    at: int
    base: "Expression"
    segments: tuple[Segment, ...]
    default: "Expression | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Has:
    """`has(path.field)`: whether the map that `path` leads to has the field."""

    at: int
    owner: "Expression"
    field: Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`size(x)` or `x.size()`."""

    at: int
    operand: "Expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """`[a, b]`."""

    at: int
    items: tuple["Expression", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf:
    """`{"key": a}`; keys are expressions as in CEL."""

    at: int
    entries: tuple[tuple["Expression", "Expression"], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary:
    """`!a` or `-a`."""

    at: int
    operator: str
    operand: "Expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """`a op b` for every operator of the language."""

    at: int
    operator: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditional:
    """`test ? chosen : otherwise`."""

    at: int
    test: "Expression"
    chosen: "Expression"
    otherwise: "Expression"


Expression: TypeAlias = Literal | Name | Path | Has | Size | ListOf | MapOf | Unary | Binary | Conditional


def children(node: Expression) -> tuple[Expression, ...]:
    """Return the direct sub-expressions, in source order."""
    match node:
        case Literal() | Name():
            return ()
        case Path():
            indexes = tuple(segment.index for segment in node.segments if isinstance(segment, Item))
            return (node.base, *indexes) if node.default is None else (node.base, *indexes, node.default)
        case Has():
            return (node.owner,)
        case Size() | Unary():
            return (node.operand,)
        case ListOf():
            return node.items
        case MapOf():
            return tuple(part for entry in node.entries for part in entry)
        case Binary():
            return (node.left, node.right)
        case Conditional():
            return (node.test, node.chosen, node.otherwise)
