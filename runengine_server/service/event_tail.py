"""Keeps the newest events of a watched run, so that all its watchers in this process cost one read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from runengine_server.domain.states import RunStatus
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.event_log import EventLog, EventPage
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.service.message_size import event_bytes, parts
from runengine_server.service.messages import ToldEvent, WatchEvents, WatchMessage
from runengine_server.service.run_lookup import run_not_found
from runengine_server.service.shared_reads import SharedReads

# What API allows in one message.
EVENTS_PER_MESSAGE_MAX = 200

# A watcher that lags by more gets a snapshot instead (`watch_run.LAG_EVENTS_MAX`).
EVENTS_KEPT_MAX = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsRead:
    """Events after a sequence, the messages that carry all of them, and how far the run is known to be.

    Shared by everyone who stands there, so that each event and each message is encoded once for all of them.
    """

    events: tuple[ToldEvent, ...]
    messages: tuple[WatchMessage, ...]
    last_sequence: int
    status: RunStatus


class EventTail:
    """The events of one run as its watchers read them: from memory where they stand close together.

    Whoever is the first to come to the end of what is known reads on, for all. Who is far behind reads pages of the log
    and catches up.

    Attributes:
        run: whose events these are; watchers keep this one rather than an equal one each.
        followers: how many follow.
    """

    def __init__(self, log: EventLog, run: RunIdentity, workflow: Workflow, on_left: Callable[[], None]) -> None:
        """Nothing is known yet; `on_left` is called when the last follower has gone."""
        self.run = run
        self.followers = 0
        self._on_left = on_left
        self._log = log
        self._workflow = workflow
        self._events: list[ToldEvent] = []
        # The sequence of the last of them, or the one after which they will come.
        self._end: int | None = None
        self._last_sequence = 0
        self._status = RunStatus.QUEUED
        self._made: dict[int, EventsRead] = {}
        self._reads_begun = 0
        # The youngest read that came to the end, by number; 0 while more is known to follow.
        self._end_seen_by = 0
        self._reading: anyio.Event | None = None
        self._earlier: SharedReads[int, EventsRead] = SharedReads()

    def close(self) -> None:
        """One follows no more."""
        self.followers -= 1
        if not self.followers:
            self._on_left()

    def now(self) -> int:
        """What `read` takes as `since`: a moment, told by the reads that had begun."""
        return self._reads_begun

    async def read(self, after: int, *, since: int) -> EventsRead:
        """Up to a message's worth of events after a sequence; that there are none is no older than `since`.

        Raises:
            NotFoundError: RUN_NOT_FOUND, when retention has removed the run.
        """
        while True:
            if self._end is not None:
                first = self._end - len(self._events)
                if self.followers < 2 and first < after <= self._end:
                    self._forget(after - first)
                    continue
                if first <= after < self._end:
                    return self._known(after)
                if after < first:
                    return await self._earlier.read(after, lambda: self._read_earlier(after))
                if self._end_seen_by > since:
                    return self._told((), self._last_sequence, self._status)
            if self._reading is not None:
                await self._reading.wait()
            else:
                await self._read_on(after)

    def _known(self, after: int) -> EventsRead:
        if (made := self._made.get(after)) is None:
            assert self._end is not None
            start = len(self._events) - (self._end - after)
            events = tuple(self._events[start : start + EVENTS_PER_MESSAGE_MAX])
            made = self._made[after] = self._told(events, self._last_sequence, self._status)
        return made

    async def _read_earlier(self, after: int) -> EventsRead:
        page = await self._page(after)
        return self._told(tuple(map(ToldEvent, page.events)), page.last_sequence, page.status)

    async def _read_on(self, after: int) -> None:
        """Read what follows the end, or the place of a watcher that is far ahead of it."""
        self._reading = anyio.Event()
        self._reads_begun += 1
        number = self._reads_begun
        try:
            end = self._end
            if end is None or after > end + EVENTS_PER_MESSAGE_MAX:
                end = after
            self._keep(end, await self._page(end), number)
        finally:
            self._reading.set()
            self._reading = None

    def _keep(self, after: int, page: EventPage, number: int) -> None:
        if after != self._end or (page.events and page.events[0].sequence > after + 1):
            self._events.clear()
        self._events.extend(map(ToldEvent, page.events))
        # An empty page before the last sequence: retention has removed what was there.
        self._end = page.events[-1].sequence if page.events else page.last_sequence
        self._last_sequence, self._status = page.last_sequence, page.status
        self._end_seen_by = number if self._end >= page.last_sequence else 0
        self._made.clear()
        del self._events[:-EVENTS_KEPT_MAX]

    def _forget(self, count: int) -> None:
        """The only watcher has been told the first of the events."""
        del self._events[:count]
        self._made.clear()

    async def _page(self, after: int) -> EventPage:
        page = await self._log.read(self.run, self._workflow, after=after, limit=EVENTS_PER_MESSAGE_MAX)
        if page is None:
            raise run_not_found(self.run.run_id)
        return page

    def _told(self, events: tuple[ToldEvent, ...], last_sequence: int, status: RunStatus) -> EventsRead:
        messages = event_messages(self.run, events)
        return EventsRead(events=events, messages=messages, last_sequence=last_sequence, status=status)


def event_messages(run: RunIdentity, events: Sequence[ToldEvent]) -> tuple[WatchMessage, ...]:
    """The events in messages that are not too large; each says how far it goes."""
    return tuple(
        WatchMessage(run_id=run.run_id, sequence=part[-1].event.sequence, kind=WatchEvents(told=tuple(part)))
        for part in parts(events, lambda told: event_bytes(told.event), count_max=EVENTS_PER_MESSAGE_MAX)
    )
