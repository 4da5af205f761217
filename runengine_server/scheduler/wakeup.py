"""A bell: each ring wakes one waiter, or is remembered until somebody waits."""

import asyncio
from collections import deque


class Wakeup:
    """Wakes waiters; a wake-up means look again, never trust what it was about."""

    def __init__(self) -> None:
        """Start silent."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_rung = False

    def ring(self) -> None:
        """Wake one waiter now, or make the next wait return at once."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._is_rung = True

    async def wait(self, timeout_s: float) -> None:
        """Return when rung, at the latest after `timeout_s`."""
        if self._is_rung:
            self._is_rung = False
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            if waiter.done() and not waiter.cancelled():
                self.ring()  # the ring came with the timeout: somebody else must hear it
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
