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

    async def wait(self, timeout_s: float | None) -> bool:
        """Return True when rung, False after `timeout_s`; None waits for ever."""
        if self._is_rung:
            self._is_rung = False
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
            return True
        except TimeoutError:
            return waiter.done() and not waiter.cancelled()  # rung in the same moment
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
