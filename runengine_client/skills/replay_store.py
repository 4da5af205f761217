"""Remembers finished successes for a while, so that a repeated call is answered without running it again."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from runengine_client.skills.invocation import CallSucceeded

CallKey = tuple[str, str]
"""Tenant and idempotency key."""

_ARTIFACT_BYTES_GUESS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCall:
    """A success and which build of the skill produced it."""

    skill_id: str
    input_hash: str
    skill_version: str
    cache_version: str
    success: CallSucceeded

    @property
    def size_bytes(self) -> int:
        """Roughly what remembering it costs."""
        return len(self.success.output_json) + _ARTIFACT_BYTES_GUESS * (1 + len(self.success.artifacts))


class ReplayStore:
    """Bounded by count, bytes and age; the least recently used goes first. In memory: a restart forgets it."""

    def __init__(
        self,
        *,
        count_max: int = 10_000,
        bytes_max: int = 256 << 20,
        ttl_s: float = 3600.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty."""
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._entries: OrderedDict[CallKey, tuple[float, FinishedCall]] = OrderedDict()
        self._bytes = 0

    def put(self, key: CallKey, finished: FinishedCall) -> None:
        """The success will be found under the key until it is too old or pushed out."""
        self._discard(key)
        self._entries[key] = (self._monotonic() + self._ttl_s, finished)
        self._bytes += finished.size_bytes
        while self._entries and (len(self._entries) > self._count_max or self._bytes > self._bytes_max):
            self._discard(next(iter(self._entries)))

    def get(self, key: CallKey) -> FinishedCall | None:
        """The success stored under the key, None when there is none or it is too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires_at, finished = entry
        if self._monotonic() >= expires_at:
            self._discard(key)
            return None
        self._entries.move_to_end(key)
        return finished

    def __len__(self) -> int:
        """How many successes are remembered."""
        return len(self._entries)

    def _discard(self, key: CallKey) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[1].size_bytes
