"""Where two inputs of a step differ, from what to what, and which of the things they were resolved from is to blame."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from runengine_server.domain.json_pointer import PointerNotFound, changed_pointers, get, overlap
from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.planner.selector import CompiledSelector, SelectorLeaf
from runengine_server.planner.step_input import RunScope, StepValue

POINTERS_MAX = 64
"""Most places that are named; what differs in more is said to."""

_VALUE_CHARACTERS_MAX = 60


class SourceKind(Enum):
    """What an input is resolved from."""

    TRIGGER = "trigger"
    CHANGE = "change"
    RUN = "run"
    OUTPUT = "output"
    ARTIFACTS = "artifacts"
    DEFINITION = "definition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Something that differs and is read there; `name` is a pointer into the payload or the id of a step."""

    kind: SourceKind
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputChange:
    """One difference: the values as short JSON, None where there is none, and what it comes from."""

    pointer: str
    before: str | None
    after: str | None
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputChanges:
    """The differences in order of pointer, the first 64; `is_cut` when there are more."""

    changes: tuple[InputChange, ...] = ()
    is_cut: bool = False

    @property
    def pointers(self) -> tuple[str, ...]:
        """Where the inputs differ."""
        return tuple(change.pointer for change in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedInput:
    """An input with what it was resolved from; `values` holds what its selector reads of other steps."""

    value: JsonObject
    size_bytes: int
    selector: CompiledSelector
    scope: RunScope
    values: Mapping[str, StepValue]


def compare_inputs(before: TracedInput, after: TracedInput) -> InputChanges:
    """Return where two inputs of a step differ; of equal inputs, nothing."""
    pointers = changed_pointers(before.value, after.value, limit=POINTERS_MAX + 1)
    comparison = _Comparison(before, after)
    return InputChanges(
        changes=tuple(comparison.at(pointer) for pointer in pointers[:POINTERS_MAX]),
        is_cut=len(pointers) > POINTERS_MAX,
    )


class _Comparison:
    """Two inputs, each thing they read compared at most once."""

    def __init__(self, before: TracedInput, after: TracedInput) -> None:
        self._before = before
        self._after = after
        self._known: dict[Source, bool] = {}

    def at(self, pointer: str) -> InputChange:
        """The difference at a pointer."""
        return InputChange(
            pointer=pointer,
            before=_shown(self._before.value, pointer),
            after=_shown(self._after.value, pointer),
            sources=tuple(self._sources(pointer)),
        )

    def _sources(self, pointer: str) -> Sequence[Source]:
        leaves = _leaves_at(self._after.selector, pointer)
        if leaves != _leaves_at(self._before.selector, pointer) or not leaves:
            return [Source(kind=SourceKind.DEFINITION)]
        read = [source for leaf in leaves for source in _reads(leaf)]
        return [source for source in dict.fromkeys(read) if self._differs(source)]

    def _differs(self, source: Source) -> bool:
        if source not in self._known:
            left, right = (_source_value(side, source) for side in (self._before, self._after))
            self._known[source] = bool(changed_pointers(left, right, limit=1))
        return self._known[source]


def _leaves_at(selector: CompiledSelector, pointer: str) -> tuple[SelectorLeaf, ...]:
    """The expressions whose value is at the pointer, around it or below it."""
    return tuple(leaf for leaf in selector.leaves if overlap(leaf.pointer, pointer))


def _reads(leaf: SelectorLeaf) -> Sequence[Source]:
    reads = leaf.reads
    found = [Source(kind=SourceKind.TRIGGER, name=pointer) for pointer in reads.trigger]
    if reads.is_change_read:
        found.append(Source(kind=SourceKind.CHANGE))
    if reads.is_run_read:
        found.append(Source(kind=SourceKind.RUN))
    found += [Source(kind=SourceKind.OUTPUT, name=step_id) for step_id in reads.step_outputs]
    found += [Source(kind=SourceKind.ARTIFACTS, name=step_id) for step_id in reads.step_artifacts]
    return found


def _source_value(side: TracedInput, source: Source) -> JsonValue:
    """What a side has there, in a list: an empty one when it has nothing, which no value equals."""
    match source.kind:
        case SourceKind.TRIGGER:
            return _found(side.scope.trigger, source.name)
        case SourceKind.CHANGE:
            return [side.scope.change]
        case SourceKind.RUN:
            return [side.scope.run]
        case SourceKind.OUTPUT:
            return [side.values[source.name].output]
        case SourceKind.ARTIFACTS:
            return [*side.values[source.name].artifacts]
        case SourceKind.DEFINITION:
            return []


def _found(value: JsonValue, pointer: str) -> list[JsonValue]:
    try:
        return [get(value, pointer)]
    except PointerNotFound:
        return []


def _shown(value: JsonValue, pointer: str) -> str | None:
    """The value at a pointer as JSON on one line, cut off where it is long."""
    found = _found(value, pointer)
    if not found:
        return None
    text = json.dumps(found[0], ensure_ascii=False)
    return text if len(text) <= _VALUE_CHARACTERS_MAX else text[: _VALUE_CHARACTERS_MAX - 1] + "…"
