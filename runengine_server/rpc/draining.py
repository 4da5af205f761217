"""Knows whether the server still takes calls and how many are being answered."""

import asyncio
from types import TracebackType

from runengine_server.domain.errors import UnavailableError

RETRY_AFTER_S = 1.0
"""Long enough for a load balancer to notice, short enough for a person."""


def draining_error(metadata: dict[str, str] | None = None) -> UnavailableError:
    """What a call gets while the server stops."""
    return UnavailableError(
        "DRAINING",
        "the server is stopping; try again, another replica will answer",
        metadata=metadata,
        retry_after_s=RETRY_AFTER_S,
    )


class Drain:
    """Counts calls, each for as long as it is inside the context, and, once begun, admits no more."""

    def __init__(self) -> None:
        """Start out open and idle."""
        self.is_draining = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        """Admit no more calls; those being answered go on."""
        self.is_draining = True

    def __enter__(self) -> None:
        """Count a call.

        Raises:
            UnavailableError: DRAINING.
        """
        if self.is_draining:
            raise draining_error()
        self._calls += 1
        self._idle.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The call has been answered."""
        self._calls -= 1
        if self._calls == 0:
            self._idle.set()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no call is being answered; False when the time, in seconds, ran out first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
