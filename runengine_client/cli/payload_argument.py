"""Reads a JSON object from an argument, a file or standard input, strictly."""

import json
import sys
from pathlib import Path

import typer

from runengine_client.payload import JsonObject


def read_payload(argument: str | None) -> JsonObject:
    """The object that `--payload` names: JSON itself, `@file.json`, or `-` for standard input; `{}` without one.

    Raises:
        typer.BadParameter: it cannot be read, or is not a JSON object.
    """
    if argument is None:
        return {}
    try:
        text = _text(argument)
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except OSError as error:
        raise typer.BadParameter(f"cannot read {argument.removeprefix('@')}: {error.strerror}") from None
    except ValueError as error:
        hint = f"; a file is written @{argument}" if _names_file(argument) else ""
        raise typer.BadParameter(f"not JSON: {error}{hint}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter("must be a JSON object, such as '{\"brief\": {}}'")
    return value


def _names_file(argument: str) -> bool:
    """Whether the @ before a file's name was forgotten."""
    try:
        return Path(argument).is_file()
    except (OSError, ValueError):
        return False


def read_labels(pairs: list[str] | None) -> dict[str, str]:
    """The labels of `--label key=value` options.

    Raises:
        typer.BadParameter: one has no `=`.
    """
    labels: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{pair!r} is not key=value")
        labels[key] = value
    return labels


def _text(argument: str) -> str:
    if argument == "-":
        return sys.stdin.read()
    if argument.startswith("@"):
        return Path(argument[1:]).read_text(encoding="utf-8-sig")
    return argument


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} appears twice in one object")
        found[key] = value
    return found


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")
