"""Follow a run: a snapshot or what came after a sequence, then every event in commit order, to the run's end."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError, OutOfRangeError
from runengine_server.domain.events import RunEvent
from runengine_server.domain.ids import StepId, StepNo
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.ports.clock import Clock
from runengine_server.ports.event_log import EventHints, EventPage, Subscription
from runengine_server.ports.run_reader import RunIdentity, StepFilter
from runengine_server.service.authorization import require
from runengine_server.service.event_reads import EventsRead, SharedEventReads, event_messages
from runengine_server.service.message_size import MESSAGE_BYTES_MAX, parts, run_bytes, step_bytes
from runengine_server.service.messages import WatchBookmark, WatchEnd, WatchMessage, WatchRequest, WatchSnapshot
from runengine_server.service.run_lookup import (
    ReadRuns,
    find_run,
    placed_steps,
    read_run,
    run_not_found,
    step_not_found,
    with_failed_step,
)

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
    events: SharedEventReads
    hints: EventHints
    clock: Clock


async def watch_run(watch: WatchRuns, caller: Caller, request: WatchRequest) -> AsyncIterator[WatchMessage]:
    """Follow a run; the last message is the end, and only a finished run has one.

    Closing the iterator, or being cancelled while it waits, is safe at any time. Who consumes slowly costs no memory:
    events are read when they are asked for.

    Raises:
        NotFoundError: RUN_NOT_FOUND, STEP_NOT_FOUND.
        InvalidError: VALIDATION_FAILED.
        OutOfRangeError: SEQUENCE_IN_FUTURE.
        UnavailableError: watch again after the last sequence.
    """
    require(caller, Scope.RUN_READ)
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
    # Subscribed before the first read: what commits in between rings the bell.
    with watch.hints.subscribe(run.key) as bell:
        async for message in _Watch(watch, run, compiled, request).messages(bell):
            yield message


class _Watch:
    """One watch: how far its reader is, and when it must hear something."""

    def __init__(self, watch: WatchRuns, run: RunIdentity, compiled: CompiledWorkflow, request: WatchRequest) -> None:
        self._read = watch.read
        self._events = watch.events
        self._clock = watch.clock
        self._run = run
        self._compiled = compiled
        self._after = request.after_sequence
        self._cursor = request.after_sequence or 0
        # What was there when the reader came is a replay it asked for; only what comes on top counts as lag.
        self._backlog_end = self._cursor
        self._step_ids = frozenset(map(StepId, request.step_ids))
        self._heartbeat_s = min(max(request.heartbeat_interval_s, HEARTBEAT_S_MIN), HEARTBEAT_S_MAX)
        self._silent_until = 0.0
        self._has_progress = request.include_progress
        self._progress_version = 0

    async def messages(self, bell: Subscription) -> AsyncIterator[WatchMessage]:
        """Everything the reader is told, from the first message to the end."""
        if self._after is None:
            async for message in self._snapshot("INITIAL"):
                yield message
        else:
            yield await self._confirmed(self._after)
        while True:
            found = await self._next()
            if (reason := self._snapshot_reason(found.page)) is not None:
                async for message in self._snapshot(reason):
                    yield message
                continue
            for message in self._event_messages(found):
                yield message
            if self._cursor < found.page.last_sequence:
                continue
            if found.page.status.is_terminal:
                break
            if self._is_heartbeat_due():
                yield self._bookmark()
            for message in self._progress():
                yield message
            while not await bell.wait(self._wait_s()) and not self._is_heartbeat_due():
                for message in self._progress():
                    yield message
        yield self._message(WatchEnd(run=await read_run(self._read, self._run, is_full=False)))

    async def _confirmed(self, after: int) -> WatchMessage:
        """A bookmark that says the run has had this sequence."""
        found = await self._next()
        if after > found.page.last_sequence:
            raise _in_future(after, found.page)
        self._backlog_end = found.page.last_sequence
        return self._bookmark()

    async def _next(self) -> EventsRead:
        found = await self._events.read(self._run, self._compiled.workflow, after=self._cursor)
        if found is None:
            raise run_not_found(self._run.run_id)
        return found

    def _snapshot_reason(self, page: EventPage) -> str | None:
        first = page.events[0].sequence if page.events else page.last_sequence + 1
        if first > self._cursor + 1:
            return "HISTORY_COMPACTED"
        if page.last_sequence - max(self._cursor, self._backlog_end) > LAG_EVENTS_MAX:
            return "SLOW_CONSUMER"
        return None

    def _event_messages(self, found: EventsRead) -> Iterator[WatchMessage]:
        """The page in messages; those without a filter are the shared ones."""
        if not found.page.events:
            return
        last = found.page.events[-1].sequence
        messages: Sequence[WatchMessage] = found.messages
        if self._step_ids:
            messages = event_messages(self._run, self._wanted(found.page.events))
            if messages:
                # Also everything that was filtered out has been dealt with.
                messages = [*messages[:-1], replace(messages[-1], sequence=last)]
        for message in messages:
            self._cursor = message.sequence
            self._is_told()
            yield message
        self._cursor = last

    def _progress(self) -> Iterator[WatchMessage]:
        if not self._has_progress:
            return
        self._progress_version, reports = self._read.progress.since(self._run.key, self._progress_version)
        for message in event_messages(self._run, self._wanted(reports)):
            self._is_told()
            yield replace(message, sequence=self._cursor)

    async def _snapshot(self, reason: str) -> AsyncIterator[WatchMessage]:
        """The run and all its steps of one moment, in parts; the last one moves the cursor."""
        workflow = self._compiled.workflow
        where = StepFilter(from_step=StepNo(0), limit=len(workflow.steps))
        found = await self._read.reader.steps(self._run, workflow, where)
        if found is None:
            raise run_not_found(self._run.run_id)
        run = with_failed_step(found.row, self._compiled)
        steps = [step for _, step in placed_steps(self._read, self._run, self._compiled, found.steps)]
        pieces = list(parts(steps, step_bytes, MESSAGE_BYTES_MAX - run_bytes(run)))
        for piece in pieces[:-1]:
            yield self._message(WatchSnapshot(run=run, steps=tuple(piece), reason=reason, more=True))
        self._cursor = self._backlog_end = run.last_sequence
        yield self._message(WatchSnapshot(run=run, steps=tuple(pieces[-1]), reason=reason, more=False))

    def _wanted(self, events: Sequence[RunEvent]) -> Sequence[RunEvent]:
        if not self._step_ids:
            return events
        return [event for event in events if event.step_id is None or event.step_id in self._step_ids]

    def _bookmark(self) -> WatchMessage:
        return self._message(WatchBookmark(server_time=self._clock.now()))

    def _message(self, kind: WatchSnapshot | WatchBookmark | WatchEnd) -> WatchMessage:
        self._is_told()
        return WatchMessage(run_id=self._run.run_id, sequence=self._cursor, kind=kind)

    def _is_told(self) -> None:
        self._silent_until = self._clock.monotonic() + self._heartbeat_s

    def _is_heartbeat_due(self) -> bool:
        return self._clock.monotonic() >= self._silent_until

    def _wait_s(self) -> float:
        left_s = max(0.0, self._silent_until - self._clock.monotonic())
        return min(left_s, PROGRESS_S) if self._has_progress else left_s


def _in_future(after: int, page: EventPage) -> OutOfRangeError:
    return OutOfRangeError(
        "SEQUENCE_IN_FUTURE",
        f"afterSequence is {after}, but the run's last event is {page.last_sequence}; use a sequence this run has had",
        metadata={"lastSequence": str(page.last_sequence)},
    )
