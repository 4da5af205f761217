"""Shares reads of the event log among the watchers of this process, and polls for all of them at once."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio

from runengine_server.domain.errors import RunEngineError
from runengine_server.domain.events import RunEvent
from runengine_server.domain.ids import RunKey
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.event_log import EventHints, EventLog, EventPage
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.service.message_size import event_bytes, parts
from runengine_server.service.messages import WatchEvents, WatchMessage

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


@dataclass(slots=True, kw_only=True)
class _Turn:
    number: int
    done: anyio.Event = field(default_factory=anyio.Event)
    is_good: bool = False
    read: EventsRead | None = None


class SharedEventReads:
    """Reads pages so that watchers at the same place of a run share one query: a thousand of them cost one.

    A caller never gets a page whose query began before its call: what woke it may be missing there. It waits for that
    query and shares the next one instead.
    """

    def __init__(self, log: EventLog) -> None:
        """Read from `log`."""
        self._log = log
        self._turns: dict[tuple[RunKey, int], _Turn] = {}
        self._started = 0

    async def read(self, run: RunIdentity, workflow: Workflow, *, after: int) -> EventsRead | None:
        """Up to a message's worth of events after a sequence; None when retention has removed the run."""
        asked = self._started
        key = (run.key, after)
        while (turn := self._turns.get(key)) is not None:
            await turn.done.wait()
            if turn.number > asked and turn.is_good:
                return turn.read
        self._started += 1
        turn = self._turns[key] = _Turn(number=self._started)
        try:
            page = await self._log.read(run, workflow, after=after, limit=EVENTS_PER_MESSAGE_MAX)
            if page is not None:
                turn.read = EventsRead(page=page, messages=event_messages(run, page.events))
            turn.is_good = True
            return turn.read
        finally:
            del self._turns[key]
            turn.done.set()


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
