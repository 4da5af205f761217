"""Reads typed values out of JSON inputs, naming the key that is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]


class InputError(ValueError):
    """An input lacks a key, or a value has the wrong type or range."""


def text(source: Mapping[str, JsonValue], key: str, default: str | None = None) -> str:
    """Return the non-blank string at `key`, stripped; `default` where the key is absent.

    Raises:
        InputError: The key is absent without a default, or no non-blank string is there.
    """
    value = source.get(key, default)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{key}: expected a non-empty string, got {value!r}")
    return value.strip()


def number(source: Mapping[str, JsonValue], key: str, *, low: float, high: float) -> float:
    """Return the number at `key`.

    Raises:
        InputError: No number is there, or it lies outside `low` … `high`.
    """
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{key}: expected a number from {low:g} to {high:g}, got {value!r}")
    return float(value)


def mapping(source: Mapping[str, JsonValue], key: str) -> JsonObject:
    """Return the object at `key`.

    Raises:
        InputError: No object is there.
    """
    value = source.get(key)
    if not isinstance(value, dict):
        raise InputError(f"{key}: expected an object, got {value!r}")
    return value


def mappings(source: Mapping[str, JsonValue], key: str) -> list[JsonObject]:
    """Return the list of objects at `key`, in order.

    Raises:
        InputError: No list is there, or one of its items is no object.
    """
    value = source.get(key)
    if not isinstance(value, list):
        raise InputError(f"{key}: expected a list, got {value!r}")
    items: list[JsonObject] = []
    for item in value:
        if not isinstance(item, dict):
            raise InputError(f"{key}: expected objects, got {item!r}")
        items.append(item)
    return items


def document(value: JsonValue) -> bytes:
    """Return `value` as a JSON file: sorted keys, two spaces, UTF-8, one newline at the end."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def seed_from(*parts: str) -> int:
    """Return a 64-bit number that depends on every part and on nothing else."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big")
