"""Reads server-sent events as the standard has it: one value an event."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """An event; `id` is empty where it had none."""

    id: str
    name: str
    data: Any


def read_events(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """The events in these lines, each as soon as its blank line is there."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield ServerSentEvent(
                id=fields.get("id", ""),
                name=fields.get("event", "message"),
                data=json.loads(fields.get("data", "null")),
            )
            fields = {}
