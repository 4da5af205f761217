"""Follow a run: a snapshot or what came after a sequence, then every event in commit order, to the run's end."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError, OutOfRangeError
from runengine_server.domain.ids import StepId
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.ports.clock import Clock
from runengine_server.ports.event_log import EventHints
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.service.authorization import require
from runengine_server.service.event_tail import EventsRead, EventTail, event_messages
from runengine_server.service.messages import ToldEvent, WatchBookmark, WatchMessage, WatchRequest
from runengine_server.service.run_lookup import ReadRuns, find_run, step_not_found
from runengine_server.service.watched_runs import WatchedRuns

HEARTBEAT_S_MIN = 5.0
HEARTBEAT_S_MAX = 60.0

# A reader this far behind what was there when it came gets the state instead of its history.
LAG_EVENTS_MAX = 5000

# Progress has no hints; a person does not see the difference.
PROGRESS_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRuns:
    """What it takes to watch runs."""

    read: ReadRuns
    runs: WatchedRuns
    hints: EventHints
    clock: Clock


async def watch_run(watch: WatchRuns, caller: Caller, request: WatchRequest) -> AsyncGenerator[WatchMessage, None]:
    """Follow a run; the last message is the end, and only a finished run has one.

    Closing the generator, or being cancelled while it waits, is safe at any time. Who consumes slowly costs no memory:
    events are read when they are asked for.

    Raises:
        NotFoundError: RUN_NOT_FOUND, STEP_NOT_FOUND.
        InvalidError: VALIDATION_FAILED.
        OutOfRangeError: SEQUENCE_IN_FUTURE.
        UnavailableError: watch again after the last sequence.
    """
    require(caller, Scope.RUN_READ, run_id=request.run_id)
    run, compiled = await _found(watch, caller, request)
    # Subscribed before the first read: what commits in between rings the bell.
    bell, tail = watch.hints.subscribe(run.key), watch.runs.follow(run, compiled)
    try:
        reader = _Reader(watch, compiled, tail, request)
        message: WatchMessage | None
        for message in await reader.first(request.after_sequence):
            yield message
        del caller, request, run  # thousands wait below, for hours
        while not reader.knows_end:
            for message in await reader.news():
                yield message
            while reader.is_idle():
                message = None  # nothing that was told stays in memory while there is nothing to tell
                asleep_at = tail.now()
                is_rung = await bell.wait(reader.wait_s())
                reader.wake(tail.now() if is_rung else asleep_at, is_rung=is_rung)
                if not is_rung:
                    for message in reader.progress():
                        yield message
    finally:
        bell.close()
        tail.close()


async def _found(watch: WatchRuns, caller: Caller, request: WatchRequest) -> tuple[RunIdentity, CompiledWorkflow]:
    """The run that is to be watched."""
    after = request.after_sequence
    if after is not None and after < 0:
        raise InvalidError(
            "VALIDATION_FAILED",
            f"afterSequence is {after}; use 0 for all events, or none for a snapshot",
            violations=[FieldViolation(field="afterSequence", description="must not be negative")],
        )
    run = await find_run(watch.read, caller, request.run_id)
    compiled = await watch.read.workflows.compiled(run.workflow_digest)
    for step_id in request.step_ids:
        if StepId(step_id) not in compiled.step_no:
            raise step_not_found(step_id, compiled)
    return run, compiled


class _Reader:
    """How far the reader of one watch is, and when it must hear something.

    Attributes:
        knows_end: it has been told everything.
    """

    __slots__ = (
        "_backlog_end",
        "_compiled",
        "_cursor",
        "_has_news",
        "_heartbeat_s",
        "_progress_version",
        "_silent_until",
        "_step_ids",
        "_tail",
        "_watch",
        "_woken_at",
        "knows_end",
    )

    def __init__(self, watch: WatchRuns, compiled: CompiledWorkflow, tail: EventTail, request: WatchRequest) -> None:
        self.knows_end = False
        self._watch = watch
        self._compiled = compiled
        self._tail = tail
        self._cursor = request.after_sequence or 0
        # What was there when the reader came is a replay it asked for; only what comes on top counts as lag.
        self._backlog_end = self._cursor
        self._step_ids = frozenset(map(StepId, request.step_ids)) if request.step_ids else None
        self._heartbeat_s = min(max(request.heartbeat_interval_s, HEARTBEAT_S_MIN), HEARTBEAT_S_MAX)
        self._silent_until = 0.0
        self._progress_version = 0 if request.include_progress else None
        # Reads that began later know whatever this watch was woken for.
        self._woken_at = tail.now()
        self._has_news = True

    async def first(self, after: int | None) -> Sequence[WatchMessage]:
        """What to tell before all else."""
        return await self._snapshot("INITIAL") if after is None else [await self._confirmed(after)]

    async def news(self) -> Iterable[WatchMessage]:
        """What to tell now, if anything."""
        found = await self._next()
        if (reason := self._snapshot_reason(found)) is not None:
            return await self._snapshot(reason)
        if found.events:
            return self._event_messages(found)  # there may be more, known before this watch was woken
        if found.status.is_terminal:
            self.knows_end = True
            return [await self._watch.runs.end(self._tail.run)]
        self._has_news = False
        return self._signs_of_life()

    def is_idle(self) -> bool:
        """There is nothing to tell until the watch is woken."""
        return not (self._has_news or self.knows_end or self._is_heartbeat_due())

    def wait_s(self) -> float:
        """How long to wait to be woken."""
        left_s = max(0.0, self._silent_until - self._watch.clock.monotonic())
        return left_s if self._progress_version is None else min(left_s, PROGRESS_S)

    def wake(self, at: int, *, is_rung: bool) -> None:
        """There may be news since a moment of the tail, or nothing was heard of any."""
        self._woken_at = at
        self._has_news = is_rung

    def progress(self) -> Iterator[WatchMessage]:
        """What running steps have reported since the last time, for a reader that wants it."""
        if self._progress_version is None:
            return
        board = self._watch.read.progress
        self._progress_version, reports = board.since(self._tail.run.key, self._progress_version)
        for message in event_messages(self._tail.run, self._wanted([ToldEvent(report) for report in reports])):
            self._is_told()
            yield replace(message, sequence=self._cursor)

    def _signs_of_life(self) -> Iterator[WatchMessage]:
        if self._is_heartbeat_due():
            yield self._bookmark()
        yield from self.progress()

    async def _confirmed(self, after: int) -> WatchMessage:
        """A bookmark that says the run has had this sequence."""
        found = await self._next()
        if after > found.last_sequence:
            raise _in_future(after, found.last_sequence)
        self._backlog_end = found.last_sequence
        return self._bookmark()

    async def _next(self) -> EventsRead:
        return await self._tail.read(self._cursor, since=self._woken_at)

    def _snapshot_reason(self, found: EventsRead) -> str | None:
        first = found.events[0].event.sequence if found.events else found.last_sequence + 1
        if first > self._cursor + 1:
            return "HISTORY_COMPACTED"
        if found.last_sequence - max(self._cursor, self._backlog_end) > LAG_EVENTS_MAX:
            return "SLOW_CONSUMER"
        return None

    def _event_messages(self, found: EventsRead) -> Sequence[WatchMessage]:
        """The page in messages, which move the cursor; those without a filter are the shared ones."""
        self._cursor = found.events[-1].event.sequence
        messages: Sequence[WatchMessage] = found.messages
        if self._step_ids and (messages := event_messages(self._tail.run, self._wanted(found.events))):
            # Also everything that was filtered out has been dealt with.
            messages = [*messages[:-1], replace(messages[-1], sequence=self._cursor)]
        if messages:
            self._is_told()
        return messages

    async def _snapshot(self, reason: str) -> Sequence[WatchMessage]:
        """The run and all its steps of one moment, in parts; the last one moves the cursor."""
        messages = await self._watch.runs.snapshot(self._tail.run, self._compiled, reason)
        self._cursor = self._backlog_end = messages[-1].sequence
        self._is_told()
        return messages

    def _wanted(self, events: Sequence[ToldEvent]) -> Sequence[ToldEvent]:
        if not self._step_ids:
            return events
        return [one for one in events if one.event.step_id is None or one.event.step_id in self._step_ids]

    def _bookmark(self) -> WatchMessage:
        self._is_told()
        return WatchMessage(
            run_id=self._tail.run.run_id, sequence=self._cursor, kind=WatchBookmark(server_time=self._watch.clock.now())
        )

    def _is_told(self) -> None:
        self._silent_until = self._watch.clock.monotonic() + self._heartbeat_s

    def _is_heartbeat_due(self) -> bool:
        return self._watch.clock.monotonic() >= self._silent_until


def _in_future(after: int, last_sequence: int) -> OutOfRangeError:
    return OutOfRangeError(
        "SEQUENCE_IN_FUTURE",
        f"afterSequence is {after}, but the run's last event is {last_sequence}; use a sequence this run has had",
        metadata={"lastSequence": str(last_sequence)},
    )
