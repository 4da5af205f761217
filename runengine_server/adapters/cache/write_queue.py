"""What is still to be written to the hot tier: bounded in number and bytes, the oldest goes first."""

import asyncio
from collections import deque

from runengine_server.domain.cache import CacheEntry
from runengine_server.domain.value import value


@value()
class HotWrite:
    """An entry to keep for `ttl_s`; a promotion gives way to what is there already."""

    entry: CacheEntry
    ttl_s: int
    is_promotion: bool


class WriteQueue:
    """First in, first out; putting never waits, and drops the oldest when there is no room."""

    def __init__(self, *, entries_max: int, bytes_max: int) -> None:
        """Hold at most so many entries, with so many bytes of output in all."""
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._waiting: deque[HotWrite] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self.dropped = 0

    def __len__(self) -> int:
        """How many writes wait."""
        return len(self._waiting)

    def put(self, write: HotWrite) -> None:
        """Add a write."""
        self._waiting.append(write)
        self._bytes += len(write.entry.output)
        while len(self._waiting) > self._entries_max or self._bytes > self._bytes_max:
            self._remove_oldest()
            self.dropped += 1
        if self._waiting:
            self._arrived.set()
            self._settled.clear()

    async def take(self, entries_max: int) -> list[HotWrite]:
        """Wait for writes and remove up to `entries_max` of them; what was taken before counts as done."""
        if not self._waiting:
            self._settled.set()
        await self._arrived.wait()
        taken = [self._remove_oldest() for _ in range(min(entries_max, len(self._waiting)))]
        if not self._waiting:
            self._arrived.clear()
        return taken

    async def settled(self) -> None:
        """Return when everything put so far was taken and done, or dropped."""
        await self._settled.wait()

    def _remove_oldest(self) -> HotWrite:
        write = self._waiting.popleft()
        self._bytes -= len(write.entry.output)
        return write
