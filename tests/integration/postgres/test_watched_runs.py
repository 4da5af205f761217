"""What the watchers of a run share: nothing is read twice, and nobody misses anything for it."""

from collections.abc import Collection, Mapping
from contextlib import closing
from datetime import UTC, datetime

import anyio
import anyio.lowlevel
import pytest

from runengine_server.domain.events import RunEvent, RunStatusChanged, StepProgress
from runengine_server.domain.ids import RunKey, StepId
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.event_log import EventLog, EventPage
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.service.event_tail import EventsRead
from runengine_server.service.messages import WatchEvents, WatchMessage, WatchRequest, WatchSnapshot
from runengine_server.service.watch_run import watch_run
from runengine_server.service.watched_runs import WatchedRuns

from .conftest import CALLER, World, wide

pytestmark = pytest.mark.anyio

LIVENESS_S = 20.0


class CountingLog:
    """The world's log, which notes what it is asked, and can be held while it is asked."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.afters: list[int] = []
        self.asked = anyio.Event()
        self.held: anyio.Event | None = None

    async def read(self, run: RunIdentity, workflow: Workflow, *, after: int, limit: int) -> EventPage | None:
        self.afters.append(after)
        self.asked.set()
        if self.held is not None:
            await self.held.wait()
        return await self.log.read(run, workflow, after=after, limit=limit)

    async def last_sequences(self, runs: Collection[RunKey]) -> Mapping[RunKey, int]:
        return await self.log.last_sequences(runs)


async def test_watchers_in_step_share_reads(world: World) -> None:
    """Many watchers at the same place cost one query for what is new and one for its end, and get the same messages."""
    made = await world.create(wide(20))
    await world.finish(made)
    log = CountingLog(world.log)
    runs = WatchedRuns(world.read, log)
    last: list[EventsRead] = []

    async def follow() -> None:
        with closing(runs.follow(made.identity, made.compiled)) as tail:
            since, cursor = tail.now(), 0
            while (found := await tail.read(cursor, since=since)).events:
                cursor = found.messages[-1].sequence
                last.append(found)

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(follow)
    assert len(last) == 100
    assert len({id(one) for one in last}) == 1
    assert log.afters == [0, last[0].last_sequence][: len(log.afters)]


async def test_a_watcher_far_behind_does_not_disturb_the_others(world: World) -> None:
    """Who replays from the start reads pages of its own, the same for all who do; the newest events stay in memory."""
    made = await world.create(wide(300))
    await world.finish(made)
    log = CountingLog(world.log)
    runs = WatchedRuns(world.read, log)
    with closing(runs.follow(made.identity, made.compiled)) as tail, closing(runs.follow(made.identity, made.compiled)):
        page = await world.log.read(made.identity, made.compiled.workflow, after=0, limit=1)
        assert page is not None
        end = page.last_sequence
        newest = await tail.read(end - 10, since=tail.now())
        replayed: list[int] = []
        while len(replayed) < end:
            found = await tail.read(len(replayed), since=tail.now())
            replayed += [one.event.sequence for one in found.events]
        assert replayed == list(range(1, end + 1))
        before = list(log.afters)
        assert (await tail.read(end - 10, since=tail.now())).events == newest.events
        assert log.afters == before


async def test_what_is_known_is_no_older_than_asked(world: World) -> None:
    """That there is nothing new is asked of the database again by whoever was woken after it was last asked."""
    made = await world.create(wide(2))
    log = CountingLog(world.log)
    with closing(WatchedRuns(world.read, log).follow(made.identity, made.compiled)) as tail:
        since = tail.now()
        end = (await tail.read(0, since=since)).last_sequence
        assert not (await tail.read(end, since=since)).events
        asked = len(log.afters)
        await world.finish(made)
        assert not (await tail.read(end, since=since)).events
        assert len(log.afters) == asked
        assert (await tail.read(end, since=tail.now())).events[0].event.sequence == end + 1


async def test_a_page_that_is_not_the_last_is_no_end(world: World) -> None:
    """Who was woken long ago and comes to the end of a full page is told what follows, as more is known to."""
    made = await world.create(wide(300))
    with closing(WatchedRuns(world.read, world.log).follow(made.identity, made.compiled)) as tail:
        since = tail.now()
        begin = (await tail.read(0, since=since)).last_sequence
        assert not (await tail.read(begin, since=since)).events
        await world.finish(made)
        page = await tail.read(begin, since=tail.now())
        cursor = page.events[-1].event.sequence
        assert cursor < page.last_sequence
        assert (await tail.read(cursor, since=since)).events[0].event.sequence == cursor + 1


async def test_what_others_have_read_hides_nothing(world: World) -> None:
    """A watcher woken for one event finds an earlier one that was read for another already, and still gets both."""
    made = await world.create(wide(2))
    one, two = await world.lease()
    got: list[RunEvent] = []
    async with anyio.create_task_group() as tasks:
        attached = anyio.Event()

        async def follow() -> None:
            async for message in watch_run(world.watch, CALLER, WatchRequest(run_id=made.run_id)):
                attached.set()
                if isinstance(message.kind, WatchEvents):
                    got.extend(message.kind.events)

        tasks.start_soon(follow)
        with (
            anyio.fail_after(4),
            closing(world.watch.runs.follow(made.identity, made.compiled)) as tail,
        ):  # before a heartbeat
            await attached.wait()
            begun = (await tail.read(0, since=tail.now())).last_sequence
            await anyio.wait_all_tasks_blocked()
            await world.complete(world.executed(one))
            assert (await tail.read(begun, since=tail.now())).events
            await world.complete(world.executed(two))
            world.hub.wake([made.key])
            while not (got and isinstance(got[-1].detail, RunStatusChanged)):
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def test_a_read_that_is_given_up_leaves_the_others_theirs(world: World) -> None:
    """When the watcher that reads for all goes away in the middle, another one reads."""
    made = await world.create(wide(2))
    log = CountingLog(world.log)
    log.held = anyio.Event()
    found: list[EventsRead] = []
    with (
        closing(WatchedRuns(world.read, log).follow(made.identity, made.compiled)) as tail,
        anyio.fail_after(LIVENESS_S),
    ):

        async def read(scope: anyio.CancelScope) -> None:
            with scope:
                found.append(await tail.read(0, since=tail.now()))

        async with anyio.create_task_group() as tasks:
            first = anyio.CancelScope()
            tasks.start_soon(read, first)
            await log.asked.wait()
            tasks.start_soon(read, anyio.CancelScope())
            first.cancel()
            log.held.set()
    assert [one.events[0].event.sequence for one in found] == [1]


async def test_snapshots_are_shared_while_nothing_happens(world: World) -> None:
    """Watchers that come one after another get the same snapshot, until an event or progress makes it old."""
    made = await world.create(wide(1))
    (lease,) = await world.lease()
    runs = world.watch.runs
    with closing(runs.follow(made.identity, made.compiled)), closing(runs.follow(made.identity, made.compiled)):

        async def snapshot() -> WatchMessage:
            return (await runs.snapshot(made.identity, made.compiled, "INITIAL"))[-1]

        first = await snapshot()
        assert await snapshot() is first
        half = StepProgress(fraction=0.5, message="half", reported_at=datetime.now(UTC))
        world.read.progress.report(made.key, StepId("s0"), half, attempt=1)
        second = await snapshot()
        assert isinstance(second.kind, WatchSnapshot)
        assert second.kind.steps[0].progress == half
        await world.complete(world.executed(lease))
        third = await snapshot()
        assert third.sequence > second.sequence
        assert await snapshot() is third
