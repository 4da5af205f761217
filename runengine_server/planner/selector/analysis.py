"""Check an expression against the scope, and find out what it reads, without evaluating it."""

from dataclasses import dataclass
from typing import Final

from runengine_server.domain.json_pointer import format_pointer
from runengine_server.planner.selector.reads import Reads, union
from runengine_server.planner.selector.scope import ARTIFACT_FIELDS, CHANGE_FIELDS, RUN_FIELDS
from runengine_server.planner.selector.syntax_tree import (
    Expression,
    Field,
    Has,
    Item,
    Literal,
    MapOf,
    Name,
    Path,
    Segment,
    children,
)

_ROOTS: Final = ("trigger", "change", "steps", "run")
_CLOSED_ROOTS: Final = {"change": CHANGE_FIELDS, "run": RUN_FIELDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What is wrong with an expression (messages with a column, in source order) and what it reads."""

    problems: tuple[str, ...]
    reads: Reads


def analyse(tree: Expression) -> Analysis:
    """Return the problems and reads of the whole expression, both branches of every conditional included."""
    problems: list[tuple[int, str]] = []
    reads: list[Reads] = []
    pending = [tree]
    while pending:
        node = pending.pop()
        inner = children(node)
        match node:
            case Name():
                _source(node, (), problems, reads)
            case Path():
                _check_indexes(node.segments, problems)
                if isinstance(node.base, Name):
                    inner = tuple(child for child in inner if child is not node.base)
                    _source(node.base, node.segments, problems, reads)
            case Has():
                base, segments = split_owner(node)
                if isinstance(base, Name):
                    inner = tuple(segment.index for segment in segments if isinstance(segment, Item))
                    _check_indexes(segments, problems)
                    _source(base, segments, problems, reads)
                    if base.name == "steps" and len(segments) == 2:
                        problems.append((node.at, "has() asks for a field inside steps.<stepId>.output"))
            case MapOf():
                _check_keys(node, problems)
            case _:
                pass
        pending.extend(inner)
    messages = tuple(f"column {at + 1}: {message}" for at, message in sorted(problems))
    return Analysis(problems=messages, reads=union(reads))


def split_owner(node: Has) -> tuple[Expression, tuple[Segment, ...]]:
    """Return the base of the path inside `has()` and all its segments, the tested field last."""
    if isinstance(node.owner, Path) and node.owner.default is None:
        return node.owner.base, (*node.owner.segments, node.field)
    return node.owner, (node.field,)


def constant_key(segment: Segment) -> str | int | None:
    """Return the key of a segment when it is written as a constant; a field and `["field"]` are the same."""
    if isinstance(segment, Field):
        return segment.name
    index = segment.index
    if isinstance(index, Literal) and (isinstance(index.value, str) or type(index.value) is int):
        return index.value
    return None


def _source(base: Name, segments: tuple[Segment, ...], problems: list[tuple[int, str]], reads: list[Reads]) -> None:
    keys = _constant_prefix(segments)
    if base.name == "trigger":
        reads.append(Reads(trigger=(format_pointer(keys),)))
    elif base.name in _CLOSED_ROOTS:
        fields = _CLOSED_ROOTS[base.name]
        if keys and keys[0] not in fields:
            problems.append((segments[0].at, f"'{base.name}' has only the fields {_listed(fields)}"))
        reads.append(Reads(is_change_read=base.name == "change", is_run_read=base.name == "run"))
    elif base.name == "steps":
        _step_source(base, segments, keys, problems, reads)
    else:
        problems.append((base.at, f"unknown name '{base.name}'; in scope are {_listed(_ROOTS)}"))


def _step_source(
    base: Name,
    segments: tuple[Segment, ...],
    keys: tuple[str | int, ...],
    problems: list[tuple[int, str]],
    reads: list[Reads],
) -> None:
    match keys:
        case (str(step_id), "output", *_):
            reads.append(Reads(step_outputs=(step_id,)))
        case (str(step_id), "artifacts", *_):
            reads.append(Reads(step_artifacts=(step_id,)))
            field = constant_key(segments[3]) if len(segments) > 3 else None
            if field is not None and field not in ARTIFACT_FIELDS:
                problems.append((segments[3].at, f"an artifact has only the fields {_listed(ARTIFACT_FIELDS)}"))
        case _:
            problems.append((base.at, "a step is read as steps.<stepId>.output or steps.<stepId>.artifacts"))
    if any(segment.is_optional for segment in segments[:2]):
        problems.append((segments[0].at, "steps.<stepId>.output is always there; put '?' behind it"))


def _constant_prefix(segments: tuple[Segment, ...]) -> tuple[str | int, ...]:
    keys: list[str | int] = []
    for segment in segments:
        key = constant_key(segment)
        if key is None:
            break
        keys.append(key)
    return tuple(keys)


def _check_indexes(segments: tuple[Segment, ...], problems: list[tuple[int, str]]) -> None:
    for segment in segments:
        if isinstance(segment, Item) and isinstance(segment.index, Literal) and constant_key(segment) is None:
            problems.append((segment.at, "an index is an int (of a list) or a string (of a map)"))


def _check_keys(node: MapOf, problems: list[tuple[int, str]]) -> None:
    seen: set[str] = set()
    for key, _ in node.entries:
        if not isinstance(key, Literal):
            continue
        if not isinstance(key.value, str):
            problems.append((key.at, "a map key is a string (as in JSON)"))
        elif key.value in seen:
            problems.append((key.at, f"the map key '{key.value}' occurs twice"))
        else:
            seen.add(key.value)


def _listed(names: frozenset[str] | tuple[str, ...]) -> str:
    ordered = sorted(names) if isinstance(names, frozenset) else list(names)
    return f"{', '.join(ordered[:-1])} and {ordered[-1]}"
