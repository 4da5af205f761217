"""Where in a text each field of a document is, so that a violation can name line and column."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from runengine_client.errors import FieldViolation

Segment = str | int
"""A key of an object or an index of a list."""

_FREE_FORM = ("inputSelector", "triggerSchema")
"""Fields that hold any JSON; a JSON pointer follows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedViolation(FieldViolation):
    """A violation with its place in the text, both from 1; 0 where there is no text or the field is not in it."""

    line: int = 0
    column: int = 0


@dataclass(slots=True)
class Spot:
    """The place of one value, and of what it holds; `keys` are the places of an object's keys."""

    line: int
    column: int
    fields: dict[str, "Spot"] = field(default_factory=dict)
    keys: dict[str, "Spot"] = field(default_factory=dict)
    items: list["Spot"] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedText:
    """What a text says, what is wrong with it as a text, and where its parts are (worked out when asked)."""

    document: object
    violations: Sequence[PlacedViolation]
    spots: Callable[[], Spot]


def unreadable(description: str, line: int = 0, column: int = 0) -> ParsedText:
    """A text that says nothing, and why; line and column from 1, 0 where the whole text is meant."""
    broken = PlacedViolation(field="document", description=description, line=line, column=column)
    return ParsedText(document=None, violations=[broken], spots=lambda: Spot(line, column))


def place(violations: Iterable[FieldViolation], root: Spot) -> list[PlacedViolation]:
    """The violations with their places, in the order of the text; one that has its place keeps it."""
    placed = [each if isinstance(each, PlacedViolation) else _placed(each, root) for each in violations]
    return sorted(placed, key=lambda each: (each.line, each.column))


def field_path(segments: Sequence[Segment]) -> str:
    """The path of a field as violations write it: `steps[3].inputSelector/brief/x`, `changeRequests[audio.update]`."""
    text = ""
    for depth, segment in enumerate(segments):
        if any(each in _FREE_FORM for each in segments[:depth]):
            text += "/" + str(segment).replace("~", "~0").replace("/", "~1")
        elif isinstance(segment, int) or (depth == 1 and segments[0] in ("changeRequests", "labels")):
            text += f"[{segment}]"
        else:
            text += f".{segment}" if text else segment
    return text or "document"


def repeated_key(path: Sequence[Segment], spot: Spot, first: Spot) -> PlacedViolation:
    """What to say of a key that its object has already; the first one counts."""
    description = f"appears twice in one object, first in line {first.line}"
    return PlacedViolation(field=field_path(path), description=description, line=spot.line, column=spot.column)


def _placed(violation: FieldViolation, root: Spot) -> PlacedViolation:
    spot = _find(violation.field, root)
    return PlacedViolation(field=violation.field, description=violation.description, line=spot.line, column=spot.column)


def _find(path: str, root: Spot) -> Spot:
    """The spot of the field, or of the innermost part of its path that the text has."""
    spot, rest = root, path
    shown = root
    while rest:
        step = _step(spot, rest)
        if step is None:
            break
        shown, spot, rest = step
    return shown


def _step(spot: Spot, rest: str) -> tuple[Spot, Spot, str] | None:
    """The place to show for the first part of a path, the value there, and what is left of the path."""
    if spot.items:
        rest = rest.removeprefix(".seedStepIds")  # which the short form of a rule leaves out
    if rest.startswith("["):
        index = rest[1:].partition("]")[0]
        if spot.items and index.isdecimal() and int(index) < len(spot.items):
            item = spot.items[int(index)]
            return item, item, rest[len(index) + 2 :]
        return _key(spot, rest, lambda key: (f"[{json.dumps(key)}]", f"[{key}]"))
    if rest.startswith("/"):
        index = rest[1:].partition("/")[0]
        if spot.items and index.isdecimal() and int(index) < len(spot.items):
            item = spot.items[int(index)]
            return item, item, rest[len(index) + 1 :]
        return _key(spot, rest, lambda key: ("/" + key.replace("~", "~0").replace("/", "~1"),))
    return _key(spot, rest.removeprefix("."), lambda key: (key,))


def _key(spot: Spot, rest: str, spellings: Callable[[str], tuple[str, ...]]) -> tuple[Spot, Spot, str] | None:
    """The longest key that the path goes on with; a field's place is that of its key."""
    best: tuple[Spot, Spot, str] | None = None
    for key, value in spot.fields.items():
        for spelling in spellings(key):
            left = rest.removeprefix(spelling)
            is_whole = rest.startswith(spelling) and (not left or left[0] in ".[/")
            if is_whole and (best is None or len(left) < len(best[2])):
                best = spot.keys[key], value, left
    return best
