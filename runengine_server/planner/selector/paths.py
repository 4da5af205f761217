"""Compile paths: almost every selector is one, so a constant path costs a few dictionary look-ups."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final, TypeAlias

from runengine_server.domain.json_value import JsonValue
from runengine_server.planner.selector.analysis import constant_key
from runengine_server.planner.selector.errors import EvaluationFailed
from runengine_server.planner.selector.operators import type_name
from runengine_server.planner.selector.scope import SelectorScope
from runengine_server.planner.selector.syntax_tree import Expression, Field, Name, Path, Segment

_Evaluator: TypeAlias = Callable[[SelectorScope], JsonValue]
_Compile: TypeAlias = Callable[[Expression], _Evaluator]


class _Absent:
    """The value of an optional path that leads nowhere."""


_ABSENT: Final = _Absent()


def compile_path(tree: Name | Path, compile_part: _Compile) -> _Evaluator:
    """Return a function that follows the path in a scope.

    Args:
        tree: a path that has passed analysis.
        compile_part: compiles the base, the indexes and the default.
    """
    root, text, segments = _root(tree, compile_part)
    if not segments:
        return root
    keys = [constant_key(segment) for segment in segments]
    if isinstance(tree, Path) and tree.default is not None:
        return _optional(root, text, segments, compile_part(tree.default), compile_part)
    if all(isinstance(key, str) for key in keys):
        return _fields(root, text, tuple(str(key) for key in keys))
    return _steps(root, text, segments, compile_part)


def _root(tree: Name | Path, compile_part: _Compile) -> tuple[_Evaluator, str, tuple[Segment, ...]]:
    """Return how to get the value a path starts from, its text for messages, and what is left to follow."""
    base, segments = (tree, ()) if isinstance(tree, Name) else (tree.base, tree.segments)
    if not isinstance(base, Name):
        return compile_part(base), "(…)", segments
    if base.name != "steps":
        return attrgetter(base.name), base.name, segments
    step_id, kind = str(constant_key(segments[0])), constant_key(segments[1])
    text = f"steps.{step_id}.{kind}"
    if kind == "output":
        return (lambda scope: scope.step_output(step_id)), text, segments[2:]
    return (lambda scope: list(scope.step_artifacts(step_id))), text, segments[2:]


def _fields(root: _Evaluator, text: str, names: tuple[str, ...]) -> _Evaluator:
    """Return a getter for `root.a.b.c`: with string keys every wrong type raises by itself."""

    def get(scope: SelectorScope) -> JsonValue:
        start = value = root(scope)
        try:
            for name in names:
                value = value[name]  # type: ignore[call-overload, index]
        except (KeyError, TypeError):
            _explain(start, text, names)
        return value

    return get


def _explain(value: JsonValue, text: str, names: Sequence[str]) -> None:
    """Raise the failure of a path of fields, naming the first field that is not there."""
    for name in names:
        value = _select(value, name, text, shown=name)
        text = _shown_path(text, name)


def _steps(root: _Evaluator, text: str, segments: tuple[Segment, ...], compile_part: _Compile) -> _Evaluator:
    parts = _parts(text, segments, compile_part)

    def follow(scope: SelectorScope) -> JsonValue:
        value = root(scope)
        for key_of, before, shown, _ in parts:
            value = _select(value, key_of(scope), before, shown=shown)
        return value

    return follow


def _optional(
    root: _Evaluator, text: str, segments: tuple[Segment, ...], default: _Evaluator, compile_part: _Compile
) -> _Evaluator:
    """Return a getter for a path with `?`: from the first one on, what is missing gives the default."""
    parts = _parts(text, segments, compile_part)

    def follow(scope: SelectorScope) -> JsonValue:
        value = root(scope)
        for key_of, before, shown, is_optional in parts:
            key = key_of(scope)
            if is_optional:
                found = _find(value, key)
                if isinstance(found, _Absent):
                    return default(scope)
                value = found
            else:
                value = _select(value, key, before, shown=shown)
        return value

    return follow


def _parts(
    text: str, segments: tuple[Segment, ...], compile_part: _Compile
) -> tuple[tuple[_Evaluator, str, str | int | None, bool], ...]:
    """Return for each segment: its key, the text before it, the key as messages may show it, whether it may miss."""
    parts: list[tuple[_Evaluator, str, str | int | None, bool]] = []
    is_optional = False
    for segment in segments:
        is_optional = is_optional or segment.is_optional
        shown = constant_key(segment)
        key_of = _constant(segment.name) if isinstance(segment, Field) else compile_part(segment.index)
        parts.append((key_of, text, shown, is_optional))
        text = _shown_path(text, shown)
    return tuple(parts)


def _constant(value: str) -> _Evaluator:
    return lambda scope: value


def _shown_path(text: str, key: str | int | None) -> str:
    if isinstance(key, str):
        return f"{text}.{key}" if key.isidentifier() else f'{text}["{key}"]'
    return f"{text}[{'…' if key is None else key}]"


def _find(value: JsonValue, key: JsonValue) -> JsonValue | _Absent:
    if isinstance(value, dict):
        return value.get(key, _ABSENT) if isinstance(key, str) else _ABSENT
    if isinstance(value, list) and type(key) is int and 0 <= key < len(value):
        return value[key]
    return _ABSENT


def _select(value: JsonValue, key: JsonValue, before: str, *, shown: str | int | None) -> JsonValue:
    """Return the member, or raise; a computed key is payload data and therefore not shown."""
    found = _find(value, key)
    if not isinstance(found, _Absent):
        return found
    if isinstance(value, dict):
        named = "such key" if shown is None else f"field '{shown}'"
        raise EvaluationFailed(f"{before} has no {named}")
    if isinstance(value, list) and type(key) is int:
        named = "such index" if shown is None else f"index {shown}"
        raise EvaluationFailed(f"{before} has no {named}")
    if isinstance(value, list):
        raise EvaluationFailed(f"{before} is a list; its index is an int, not {type_name(key)}")
    raise EvaluationFailed(f"{before} is {type_name(value)} and has no fields or items")
