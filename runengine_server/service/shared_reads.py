"""Shares reads among callers that want the same thing at the same time: a thousand of them cost one query."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True, kw_only=True)
class _Turn(Generic[V]):
    number: int = 0  # until it begins
    done: anyio.Event = field(default_factory=anyio.Event)
    values: list[V] = field(default_factory=list)


class SharedReads(Generic[K, V]):
    """Reads by key; a caller never gets what was read by a query that began before its call.

    Whatever made it ask may be missing there: it waits for that query and shares the next one instead.
    """

    def __init__(self) -> None:
        """Nothing is being read."""
        self._turns: dict[K, _Turn[V]] = {}
        self._started = 0

    async def read(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """What `load` gives, here or for another caller with the same key; a failed load fails only its own caller."""
        asked = self._started
        while (turn := self._turns.get(key)) is not None:
            await turn.done.wait()
            if turn.number > asked and turn.values:
                return turn.values[0]
        turn = self._turns[key] = _Turn()
        try:
            await anyio.lowlevel.checkpoint()  # whoever asks in this turn of the loop shares
            self._started += 1
            turn.number = self._started
            value = await load()
            turn.values.append(value)
            return value
        finally:
            del self._turns[key]
            turn.done.set()
