"""Watching runs while they move: nothing missed, nothing twice, to the end."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import anyio
import pytest

from runengine_server.domain.errors import InvalidError, NotFoundError, OutOfRangeError
from runengine_server.domain.events import RunEvent, StepProgress, StepStatusChanged
from runengine_server.domain.ids import StepId
from runengine_server.domain.states import RunStatus, StepStatus
from runengine_server.service import watch_run as watch_module
from runengine_server.service import watched_runs as watched_module
from runengine_server.service.event_poller import EventPoller
from runengine_server.service.messages import (
    WatchBookmark,
    WatchEnd,
    WatchEvents,
    WatchMessage,
    WatchRequest,
    WatchSnapshot,
)
from runengine_server.service.watch_run import watch_run

from .conftest import CALLER, STRANGER, Made, World, diamond, wide

pytestmark = pytest.mark.anyio

LIVENESS_S = 20.0
T = TypeVar("T")


def watching(world: World, made: Made, **options: object) -> AsyncIterator[WatchMessage]:
    return watch_run(world.watch, CALLER, WatchRequest(run_id=made.run_id, **options))  # type: ignore[arg-type]


async def collect(messages: AsyncIterator[WatchMessage]) -> list[WatchMessage]:
    with anyio.fail_after(LIVENESS_S):
        return [message async for message in messages]


async def take(messages: AsyncIterator[WatchMessage]) -> WatchMessage:
    with anyio.fail_after(LIVENESS_S):
        return await anext(messages)


def events_in(messages: Sequence[WatchMessage]) -> list[RunEvent]:
    return [event for message in messages if isinstance(message.kind, WatchEvents) for event in message.kind.events]


async def test_finished_run_is_replayed(world: World) -> None:
    """Watching a finished run from 0 confirms the sequence, replays every event and ends with the final run."""
    made = await world.create(diamond())
    await world.finish(made)
    messages = await collect(watching(world, made, after_sequence=0))
    assert isinstance(messages[0].kind, WatchBookmark)
    assert messages[0].sequence == 0
    events = events_in(messages)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert isinstance(messages[-1].kind, WatchEnd)
    assert messages[-1].kind.run.status is RunStatus.COMPLETED
    assert messages[-1].sequence == messages[-1].kind.run.last_sequence == len(events)


async def test_snapshot_then_events(world: World) -> None:
    """Without a sequence the state comes first, and the events after it lead to the state at the end."""
    made = await world.create(diamond())
    (plan,) = await world.lease()
    async with aclosing(watching(world, made)) as messages:
        first = await take(messages)
        assert isinstance(first.kind, WatchSnapshot)
        assert (first.kind.reason, first.kind.more) == ("INITIAL", False)
        assert first.sequence == first.kind.run.last_sequence
        assert [step.status for step in first.kind.steps] == [3, 1, 1, 1]
        music, art = await world.complete(world.executed(plan), capacity=2)
        world.hub.wake([made.key])
        batch = await take(messages)
        assert events_in([batch])[0].sequence == first.sequence + 1
        (mix,) = await world.complete(world.executed(music), world.executed(art))
        await world.complete(world.executed(mix))
        world.hub.wake([made.key])
        rest = await collect(messages)
    seen = events_in([batch, *rest])
    assert [event.sequence for event in seen] == list(range(first.sequence + 1, rest[-1].sequence + 1))
    state = {step.step_id: step.status for step in first.kind.steps}
    for event in seen:
        if isinstance(event.detail, StepStatusChanged) and event.step_id is not None:
            state[event.step_id] = event.detail.to_status
    assert set(state.values()) == {StepStatus.COMPLETED}


async def test_snapshot_of_a_finished_run(world: World) -> None:
    """Watching a finished run without a sequence gives its state and the end, and no events."""
    made = await world.create(wide(1))
    await world.finish(made)
    messages = await collect(watching(world, made))
    assert [type(message.kind) for message in messages] == [WatchSnapshot, WatchEnd]


async def test_concurrent_writers_and_watchers(world: World) -> None:
    """While many ticks commit, watchers that came at different moments and some that resume miss and repeat nothing."""
    made = [await world.create(wide(150)) for _ in range(3)]
    logs: list[list[int]] = []

    async def follow(one: Made, interrupted_every: int | None) -> None:
        sequences: list[int] = []
        is_ended = False
        while not is_ended:
            async with aclosing(watching(world, one, after_sequence=sequences[-1] if sequences else 0)) as messages:
                batches = 0
                async for message in messages:
                    sequences += [event.sequence for event in events_in([message])]
                    if sequences:
                        assert message.sequence == sequences[-1]
                    is_ended = isinstance(message.kind, WatchEnd)
                    batches += 1
                    if interrupted_every is not None and batches >= interrupted_every:
                        break
        logs.append(sequences)

    async def write() -> None:
        while leases := await world.lease(20):
            await world.complete(*[world.executed(lease) for lease in leases], capacity=0)
            world.hub.wake({lease.run for lease in leases})

    with anyio.fail_after(60):
        async with anyio.create_task_group() as background:
            background.start_soon(EventPoller(world.log, world.hub).run)
            async with anyio.create_task_group() as tasks:
                for one in made:
                    for interrupted_every in (None, None, 3):
                        tasks.start_soon(follow, one, interrupted_every)
                tasks.start_soon(write)
                tasks.start_soon(write)
            background.cancel_scope.cancel()
    assert len(logs) == 9
    newest = await world.log.last_sequences([one.key for one in made])
    assert set(newest.values()) == {453}  # 3 of the run, 3 of each step
    for sequences in logs:
        assert sequences == list(range(1, 454))


async def test_lost_hints(world: World) -> None:
    """Without any hint a watcher still gets everything, from the poll."""
    made = await world.create(diamond())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(EventPoller(world.log, world.hub).run)
        async with aclosing(watching(world, made, after_sequence=0)) as messages:
            confirmed, queued = await take(messages), await take(messages)
            assert isinstance(confirmed.kind, WatchBookmark)
            assert queued.sequence == 2
            await world.finish(made)
            rest = await collect(messages)
        tasks.cancel_scope.cancel()
    assert isinstance(rest[-1].kind, WatchEnd)
    assert events_in(rest)[0].sequence == 3


async def test_resume_after_the_end(world: World) -> None:
    """Who resumes after the last event gets a confirmation and the end; beyond it is refused."""
    made = await world.create(wide(1))
    await world.finish(made)
    last = (await world.log.last_sequences([made.key]))[made.key]
    messages = await collect(watching(world, made, after_sequence=last))
    assert [type(message.kind) for message in messages] == [WatchBookmark, WatchEnd]
    with pytest.raises(OutOfRangeError) as refused:
        await collect(watching(world, made, after_sequence=last + 1))
    assert refused.value.reason == "SEQUENCE_IN_FUTURE"
    assert refused.value.metadata["lastSequence"] == str(last)


async def test_filter(world: World) -> None:
    """With step ids only their events and the run's come, and the sequence still counts the others."""
    made = await world.create(diamond())
    await world.finish(made)
    everything = events_in(await collect(watching(world, made, after_sequence=0)))
    messages = await collect(watching(world, made, after_sequence=0, step_ids=("music",)))
    assert events_in(messages) == [event for event in everything if event.step_id in (None, "music")]
    assert messages[-1].sequence == everything[-1].sequence
    with pytest.raises(NotFoundError) as refused:
        await collect(watching(world, made, step_ids=("nope",)))
    assert refused.value.reason == "STEP_NOT_FOUND"


async def test_compacted_history(world: World) -> None:
    """When events after the sequence are gone the reader is told by a snapshot and goes on from there."""
    made = await world.create(wide(2))
    await world.lease(1)
    await world.database.fetch("DELETE FROM run_events WHERE run = $1 AND sequence <= 3", made.key)
    async with aclosing(watching(world, made, after_sequence=1)) as messages:
        assert isinstance((await take(messages)).kind, WatchBookmark)
        snapshot = await take(messages)
    assert isinstance(snapshot.kind, WatchSnapshot)
    assert snapshot.kind.reason == "HISTORY_COMPACTED"
    assert snapshot.sequence == snapshot.kind.run.last_sequence


async def test_slow_consumer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that falls too far behind gets a snapshot; one that asked for a long replay gets the replay."""
    monkeypatch.setattr(watch_module, "LAG_EVENTS_MAX", 100)
    made = await world.create(wide(100))
    async with aclosing(watching(world, made)) as messages:
        await take(messages)
        await world.finish(made)  # more than 200 events while it does not read
        rest = await collect(messages)
    assert [type(message.kind) for message in rest] == [WatchSnapshot, WatchEnd]
    assert isinstance(rest[0].kind, WatchSnapshot)
    assert rest[0].kind.reason == "SLOW_CONSUMER"
    replay = events_in(await collect(watching(world, made, after_sequence=0)))
    assert [event.sequence for event in replay] == list(range(1, rest[-1].sequence + 1))


async def test_snapshot_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot too large for one message comes in parts, of which only the last moves the sequence."""
    monkeypatch.setattr(watched_module, "MESSAGE_BYTES_MAX", 5_000)
    made = await world.create(wide(30))
    await world.finish(made)
    messages = await collect(watching(world, made))
    snapshots = [message for message in messages if isinstance(message.kind, WatchSnapshot)]
    assert len(snapshots) > 2
    assert [message.kind.more for message in snapshots] == [True] * (len(snapshots) - 1) + [False]  # type: ignore[union-attr]
    steps = [step.step_id for message in snapshots for step in message.kind.steps]  # type: ignore[union-attr]
    assert steps == [f"s{n}" for n in range(30)]
    assert {message.sequence for message in snapshots[:-1]} == {0}
    assert snapshots[-1].sequence == messages[-1].sequence > 0


@pytest.mark.parametrize(("bound", "requested_s"), [("HEARTBEAT_S_MIN", 0.0), ("HEARTBEAT_S_MAX", 600.0)])
async def test_heartbeat(world: World, monkeypatch: pytest.MonkeyPatch, bound: str, requested_s: float) -> None:
    """While nothing happens bookmarks come, each confirming the sequence, as often as the bounds allow at most."""
    monkeypatch.setattr(watch_module, bound, 0.01)
    made = await world.create(wide(1))
    async with aclosing(watching(world, made, heartbeat_interval_s=requested_s)) as messages:
        first, second, third = [await take(messages) for _ in range(3)]
    assert isinstance(first.kind, WatchSnapshot)
    assert isinstance(second.kind, WatchBookmark)
    assert isinstance(third.kind, WatchBookmark)
    assert {second.sequence, third.sequence} == {first.sequence}


async def test_progress(world: World) -> None:
    """Progress comes to those who want it, without a number, and is seen in the steps of a snapshot."""
    made = await world.create(wide(1))
    await world.lease()
    half = StepProgress(fraction=0.5, message="half", reported_at=datetime.now(UTC))
    world.read.progress.report(made.key, StepId("s0"), half, attempt=1)
    async with aclosing(watching(world, made, include_progress=True)) as messages:
        snapshot, progress = await take(messages), await take(messages)
        assert isinstance(snapshot.kind, WatchSnapshot)
        assert snapshot.kind.steps[0].progress == half
        (event,) = events_in([progress])
        assert (event.sequence, event.detail, progress.sequence) == (0, half, snapshot.sequence)
        world.read.progress.report(made.key, StepId("s0"), replace(half, fraction=0.9), attempt=1)
        (event,) = events_in([await take(messages)])
        assert event.detail == replace(half, fraction=0.9)


async def test_refusals(world: World) -> None:
    """A negative sequence, another tenant's run and a run that does not exist are refused before anything is sent."""
    made = await world.create(wide(1))
    with pytest.raises(InvalidError):
        await collect(watching(world, made, after_sequence=-1))
    with pytest.raises(NotFoundError):
        await collect(watch_run(world.watch, STRANGER, WatchRequest(run_id=made.run_id)))
    assert world.hub.watched() == []


async def test_nothing_is_left_behind(world: World) -> None:
    """A watch that is given up while it waits leaves no subscription."""
    made = await world.create(wide(1))
    async with anyio.create_task_group() as tasks:
        seen = anyio.Event()

        async def follow() -> None:
            async with aclosing(watching(world, made)) as messages:
                async for _ in messages:
                    seen.set()

        tasks.start_soon(follow)
        with anyio.fail_after(LIVENESS_S):
            await seen.wait()
        assert world.hub.watched() == [made.key]
        tasks.cancel_scope.cancel()
    assert world.hub.watched() == []
