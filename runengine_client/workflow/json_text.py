"""Reads a JSON text strictly: no key twice, no NaN, and every place known when something is wrong."""

import json
import re
from bisect import bisect_right
from dataclasses import dataclass

from runengine_client.workflow.positions import ParsedText, PlacedViolation, Spot, repeated_key, unreadable

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def parse_json(text: str) -> ParsedText:
    """What a JSON text says; where a key appears twice, the first one counts and the others are violations."""
    duplicates: list[str] = []

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                duplicates.append(key)
            else:
                found[key] = value
        return found

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is not JSON")

    try:
        document: object = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        return unreadable(error.msg, error.lineno, error.colno)
    except (ValueError, RecursionError) as error:
        return unreadable(str(error))
    violations = _Spots(text).violations if duplicates else []
    return ParsedText(document=document, violations=violations, spots=lambda: _Spots(text).root)


@dataclass(slots=True)
class _Open:
    """A container that is being read; of an object, the last key and whether its value has yet to come."""

    spot: Spot
    is_object: bool
    key: str = ""
    awaits_value: bool = False
    is_repeated: bool = False


class _Spots:
    """The places in a text that is known to be JSON, and the keys that appear twice in one object."""

    def __init__(self, text: str) -> None:
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._open: list[_Open] = []
        self.root = Spot(1, 1)
        self.violations: list[PlacedViolation] = []
        for match in _TOKEN.finditer(text):
            if match[0] in "}]":
                self._open.pop()
            elif match[0] not in ",:":
                self._take(match[0], self._spot(match.start()))

    def _take(self, token: str, spot: Spot) -> None:
        inner = self._open[-1] if self._open else None
        if inner is None:
            self.root = spot
        elif not inner.is_object:
            inner.spot.items.append(spot)
        elif not inner.awaits_value:
            self._take_key(inner, json.loads(token), spot)
            return
        else:
            inner.awaits_value = False
            if not inner.is_repeated:
                inner.spot.fields[inner.key] = spot
        if token in "{[":
            self._open.append(_Open(spot, token == "{"))

    def _take_key(self, inner: _Open, key: str, spot: Spot) -> None:
        inner.key, inner.awaits_value, inner.is_repeated = key, True, key in inner.spot.keys
        if not inner.is_repeated:
            inner.spot.keys[key] = spot
            return
        path = [each.key if each.is_object else len(each.spot.items) - 1 for each in self._open]
        self.violations.append(repeated_key(path, spot, inner.spot.keys[key]))

    def _spot(self, offset: int) -> Spot:
        line = bisect_right(self._line_starts, offset)
        return Spot(line, offset - self._line_starts[line - 1] + 1)
