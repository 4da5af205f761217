"""Values for programs, as the HTTP surface has them: camelCase keys, lower-case enums, durations as `…Ms`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import yaml

from runengine_client.payload import JsonValue


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


_RENAMED = {"is_deduplicated": "deduplicated"}


def to_json(value: object) -> JsonValue:
    """A value as JSON; unset fields and empty texts and collections are left out, zeros and payloads are kept."""
    if is_dataclass(value) and not isinstance(value, type):
        found: dict[str, JsonValue] = {}
        for each in fields(value):
            item = getattr(value, each.name)
            if item is None or (isinstance(item, str | tuple | Mapping) and not item and each.name not in _PAYLOADS):
                continue
            suffix = "Ms" if isinstance(item, timedelta) else ""
            found[_camel(_RENAMED.get(each.name, each.name)) + suffix] = to_json(item)
        return found
    match value:
        case timedelta():
            return round(value / timedelta(milliseconds=1))
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case None | bool() | int() | float():
            return value
        case str():
            return str(value)
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
        case Sequence():
            return [to_json(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no JSON form")


_PAYLOADS = frozenset({"trigger_payload", "payload", "input", "output"})
"""Fields whose `{}` is a value, not an absence."""


def dumps(value: object, output: Output = Output.JSON, *, is_item: bool = False) -> str:
    """The text of a value, with its line break; an item is one line of JSON, or one document of YAML."""
    written = to_json(value)
    if output is Output.YAML:
        start = "---\n" if is_item else ""
        return start + yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=120)
    return json.dumps(written, ensure_ascii=False, indent=None if is_item else 2) + "\n"


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
