"""Shares reads of the event log among the watchers of this process, and polls for all of them at once."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from runengine_server.domain.errors import RunEngineError
from runengine_server.domain.events import RunEvent
from runengine_server.domain.ids import RunKey
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.event_log import EventHints, EventLog, EventPage
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.service.message_size import event_bytes, parts
from runengine_server.service.messages import WatchEvents, WatchMessage
from runengine_server.service.shared_reads import SharedReads

# The longest a watcher waits for an event whose hint was lost.
POLL_S_MAX = 0.2
_POLL_BACKOFF_S = 2.0


# What API allows in one message.
EVENTS_PER_MESSAGE_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsRead:
    """A page and the messages that carry all of it; shared objects, so that each can be encoded once for everyone."""

    page: EventPage
    messages: tuple[WatchMessage, ...]


class SharedEventReads:
    """Reads pages so that watchers at the same place of a run share one query."""

    def __init__(self, log: EventLog) -> None:
        """Read from `log`."""
        self._log = log
        self._reads: SharedReads[tuple[RunKey, int], EventsRead | None] = SharedReads()

    async def read(self, run: RunIdentity, workflow: Workflow, *, after: int) -> EventsRead | None:
        """Up to a message's worth of events after a sequence; None when retention has removed the run."""

        async def load() -> EventsRead | None:
            page = await self._log.read(run, workflow, after=after, limit=EVENTS_PER_MESSAGE_MAX)
            return None if page is None else EventsRead(page=page, messages=event_messages(run, page.events))

        return await self._reads.read((run.key, after), load)


def event_messages(run: RunIdentity, events: Sequence[RunEvent]) -> tuple[WatchMessage, ...]:
    """The events in messages that are not too large; each says how far it goes."""
    return tuple(
        WatchMessage(run_id=run.run_id, sequence=part[-1].sequence, kind=WatchEvents(events=tuple(part)))
        for part in parts(events, event_bytes, count_max=EVENTS_PER_MESSAGE_MAX)
    )


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
