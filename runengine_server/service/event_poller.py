"""Polls the event log for all watched runs at once, for hints that were lost."""

import random
from collections.abc import Callable

import anyio

from runengine_server.domain.errors import RunEngineError
from runengine_server.domain.ids import RunKey
from runengine_server.ports.event_log import EventHints, EventLog

# The longest a watcher waits for an event whose hint was lost.
POLL_S_MAX = 0.2
_POLL_BACKOFF_S = 2.0


class EventPoller:
    """Finds new events whose hints were lost: one query for all watched runs, several times a second.

    `run()` must be running; without it watchers only have hints and their heartbeat.
    """

    def __init__(
        self,
        log: EventLog,
        hints: EventHints,
        *,
        poll_s_max: float = POLL_S_MAX,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Poll `log` for the runs that someone subscribes to in `hints`; `jitter` is uniform in 0 … 1."""
        self._log = log
        self._hints = hints
        self._poll_s_max = poll_s_max
        self._jitter = jitter
        self._known: dict[RunKey, int] = {}

    async def run(self) -> None:
        """Poll until cancelled; while the database is away, more slowly."""
        while True:
            await anyio.sleep(self._poll_s_max * (1 + self._jitter()) / 2)
            try:
                await self.poll_once()
            except RunEngineError:
                await anyio.sleep(_POLL_BACKOFF_S * (1 + self._jitter()) / 2)

    async def poll_once(self) -> None:
        """Wake the watchers of runs that have moved since the last poll, and of runs not polled before."""
        watched = self._hints.watched()
        newest = await self._log.last_sequences(watched) if watched else {}
        self._hints.wake([run for run, sequence in newest.items() if self._known.get(run) != sequence])
        self._known = dict(newest)
