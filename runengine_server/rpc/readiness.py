"""Knows whether this server should be sent requests, and keeps gRPC health saying the same."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio

from runengine_server.ports.clock import Clock

PROBE_S: Final = 1.0
MIRROR_S: Final = 0.25
SILENCE_S: Final = 3.0
"""A database that has not answered for so long is away, however long its last question may still wait."""


class Readiness:
    """Not ready before `begin`, while the database has problems, and from `drain` on."""

    def __init__(
        self, problems: Callable[[], Awaitable[Sequence[str]]], tell: Callable[[bool], Awaitable[None]], clock: Clock
    ) -> None:
        """Ask `problems` each second while `run` runs.

        Args:
            problems: what is wrong with the database, in codes.
            tell: hears of every change.
            clock: says how long the database has been silent.
        """
        self._problems = problems
        self._tell = tell
        self._clock = clock
        self._found: Sequence[str] = ()
        self._answered_s = clock.monotonic()
        self._is_begun = False
        self._is_draining = False
        self._told = False

    def reasons(self) -> Sequence[str]:
        """Why the server is not ready, in codes; none when it is."""
        if self._is_draining:
            return ["DRAINING"]
        if not self._is_begun:
            return ["STARTING"]
        if self._clock.monotonic() - self._answered_s > SILENCE_S:
            return ["DATABASE_UNAVAILABLE"]
        return self._found

    async def begin(self) -> None:
        """Everything is served: from now on the database decides, and has been asked."""
        await self._probe()
        self._is_begun = True
        await self._mirror()

    def drain(self) -> None:
        """The server stops; whoever asks is told at once."""
        self._is_draining = True

    async def run(self) -> None:
        """Ask and tell until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._every, PROBE_S, self._probe)
            tasks.start_soon(self._every, MIRROR_S, self._mirror)

    async def _every(self, interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await anyio.sleep(interval_s)
            await work()

    async def _probe(self) -> None:
        self._found = await self._problems()
        self._answered_s = self._clock.monotonic()

    async def _mirror(self) -> None:
        is_ready = not self.reasons()
        if is_ready != self._told:
            await self._tell(is_ready)
            self._told = is_ready
