"""A watch yields every event once and in order, whatever happens to its streams."""

import socket
import threading

import anyio
import pytest

from runengine_client import (
    Backoff,
    NotFoundError,
    RunEnded,
    RunEngineClient,
    RunEvent,
    RunSnapshot,
    UnavailableError,
    WatchBrokenError,
    WatchOptions,
)

pytestmark = pytest.mark.anyio

RUN_ID = "550e8400-e29b-41d4-a716-446655440000"
FAST = Backoff(attempts_max=40, first_s=0.001, max_s=0.01)


def options(**given) -> WatchOptions:
    return WatchOptions(**{"connect": FAST, "resume": FAST, **given})


async def follow(serving, given: WatchOptions | None = None) -> list:
    async with RunEngineClient(serving.target) as client:
        with anyio.fail_after(20):
            return [item async for item in client.watch(RUN_ID, options=given or options())]


def sequences(items: list) -> list[int]:
    return [item.sequence for item in items if isinstance(item, RunEvent)]


async def test_whole_run(serving, fake):
    """A watch starts with a snapshot, yields each event once and ends with the run's final state."""
    items = await follow(serving)
    assert isinstance(items[0], RunSnapshot)
    assert [step.step_id for step in items[0].steps] == ["plan", "image", "music", "mix"]
    assert sequences(items) == list(range(1, len(fake.log) + 1))
    assert isinstance(items[-1], RunEnded)
    assert items[-1].run.status == "completed"


@pytest.mark.parametrize("cut", range(14))
async def test_cut_anywhere(serving, fake, make_watch_fault, cut):
    """A stream that breaks after any event is resumed behind that event."""
    fake.watch_faults = [make_watch_fault(after_events=cut)]
    items = await follow(serving)
    assert sequences(items) == list(range(1, 14))
    requests = fake.requests("WatchRun")
    if cut < 13:
        assert len(requests) == 2, "the fault must have happened"
        assert requests[1].after_sequence == cut


async def test_broken_again_and_again(serving, fake, make_watch_fault):
    """Thirteen broken streams in a row lose and repeat nothing."""
    fake.watch_faults = [make_watch_fault(after_events=1) for _ in range(12)]
    items = await follow(serving)
    assert sequences(items) == list(range(1, 14))
    assert [request.after_sequence for request in fake.requests("WatchRun")[1:]] == list(range(1, 13))


async def test_repeated_events(serving, fake, make_watch_fault):
    """Events that a server sends again after a resume are not yielded again."""
    fake.watch_faults = [make_watch_fault(after_events=6), make_watch_fault(after_events=10**6, repeats=4)]
    items = await follow(serving)
    assert sequences(items) == list(range(1, 14))
    assert len(fake.requests("WatchRun")) == 2


async def test_skipped_events(serving, fake, make_watch_fault):
    """A server that leaves out an event ends the watch with an error; nothing after the gap is yielded."""
    fake.watch_faults = [make_watch_fault(after_events=6), make_watch_fault(after_events=10**6, skips=1)]
    seen = []
    async with RunEngineClient(serving.target) as client:
        with pytest.raises(WatchBrokenError, match="event 8 after event 6"):
            async for item in client.watch(RUN_ID, options=options()):
                seen.append(item)
    assert sequences(seen) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("code", "reason"),
    [("UNAVAILABLE", "DRAINING"), ("RESOURCE_EXHAUSTED", "WATCH_STALLED"), ("INTERNAL", ""), ("CANCELLED", "")],
)
async def test_resumable_statuses(serving, fake, make_watch_fault, make_fault, code, reason):
    """Draining, a stall and a reset stream are resumed."""
    fake.watch_faults = [make_watch_fault(after_events=5, fault=make_fault(code=code, reason=reason))]
    assert sequences(await follow(serving)) == list(range(1, 14))
    assert len(fake.requests("WatchRun")) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [("INTERNAL", "INTERNAL"), ("RESOURCE_EXHAUSTED", "TOO_MANY_WATCHES"), ("UNAUTHENTICATED", "TOKEN_INVALID")],
)
async def test_final_statuses(serving, fake, make_watch_fault, make_fault, code, reason):
    """What the server itself refuses is not tried again."""
    fake.watch_faults = [make_watch_fault(after_events=5, fault=make_fault(code=code, reason=reason))]
    with pytest.raises(Exception) as caught:
        await follow(serving)
    assert caught.value.reason == reason
    assert len(fake.requests("WatchRun")) == 1


async def test_ok_without_end(serving, fake, make_watch_fault):
    """A stream that a proxy closes with OK before the end is resumed."""
    fake.watch_faults = [make_watch_fault(after_events=5, fault=None)]
    assert sequences(await follow(serving)) == list(range(1, 14))
    assert len(fake.requests("WatchRun")) == 2


async def test_silence(serving, fake, make_watch_fault):
    """A stream without a heartbeat is given up and resumed; its call is cancelled."""
    fake.watch_faults = [make_watch_fault(after_events=5, is_silent=True)]
    interruptions = []
    items = await follow(serving, options(silence_s_max=0.3, on_interrupted=interruptions.append))
    assert sequences(items) == list(range(1, 14))
    assert [each.error.reason for each in interruptions] == ["WATCH_SILENT"]


async def test_a_server_that_never_answers():
    """A call that cannot even begin is given up as silent, and tried as often as the options say."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        given = options(silence_s_max=0.1, connect=Backoff(attempts_max=2, first_s=0.001, max_s=0.01))
        async with RunEngineClient(f"127.0.0.1:{mute.getsockname()[1]}") as client:
            with anyio.fail_after(20), pytest.raises(UnavailableError) as caught:
                await anext(client.watch(RUN_ID, options=given))
    assert caught.value.reason == "WATCH_SILENT"


async def test_compacted_history(serving, fake, make_watch_fault):
    """Where the history is gone the watch yields a second snapshot and goes on behind it."""
    fake.watch_faults = [make_watch_fault(after_events=5), make_watch_fault(after_events=10**6, compacts=True)]
    items = await follow(serving)
    snapshots = [item for item in items if isinstance(item, RunSnapshot)]
    assert [(item.reason, item.sequence) for item in snapshots] == [("initial", 0), ("history_compacted", 13)]
    assert sequences(items) == [1, 2, 3, 4, 5]


async def test_snapshot_in_parts(serving, fake, make_watch_fault):
    """A snapshot in parts is yielded once and whole, also when its first stream broke half-way."""
    fake.snapshot_parts = 2
    fake.watch_faults = [make_watch_fault(after_events=-1)]
    items = await follow(serving)
    snapshots = [item for item in items if isinstance(item, RunSnapshot)]
    assert len(snapshots) == 1
    assert [step.step_id for step in snapshots[0].steps] == ["plan", "image", "music", "mix"]
    assert not fake.requests("WatchRun")[1].HasField("after_sequence")


async def test_after_sequence(serving, fake):
    """With after_sequence only later events come, and no snapshot."""
    items = await follow(serving, options(after_sequence=9))
    assert sequences(items) == [10, 11, 12, 13]
    assert not any(isinstance(item, RunSnapshot) for item in items)


async def test_unknown_run(serving, fake, make_fault):
    """An unknown run is an error at once."""
    fake.faults["WatchRun"] = [make_fault(code="NOT_FOUND", reason="RUN_NOT_FOUND")]
    with pytest.raises(NotFoundError):
        await follow(serving)
    assert len(fake.requests("WatchRun")) == 1


async def test_bounded(serving, fake, make_watch_fault):
    """A watch that gets nothing new gives up after as many tries as it may."""
    fake.watch_faults = [make_watch_fault(after_events=3)] + [make_watch_fault(after_events=0) for _ in range(50)]
    with pytest.raises(UnavailableError):
        await follow(serving, options(resume=Backoff(attempts_max=4, first_s=0.001, max_s=0.001)))
    assert len(fake.requests("WatchRun")) == 4


async def test_leaving_ends_the_call(serving, fake, make_watch_fault):
    """Leaving a watch early cancels its call on the server."""
    fake.watch_faults = [make_watch_fault(after_events=2, is_silent=True)]
    async with RunEngineClient(serving.target) as client:
        items = client.watch(RUN_ID, options=options())
        async for item in items:
            if item.sequence == 2:
                break
        await items.aclose()
        assert await anyio.to_thread.run_sync(fake.watch_ended.wait, 10)


async def test_server_restart(serving, fake, make_watch_fault):
    """A server that goes away and comes back on its address does not end a watch."""
    fake.watch_faults = [make_watch_fault(after_events=7, is_silent=True)]
    seen: list = []
    restarted = threading.Event()

    def restart() -> None:
        serving.stop()
        serving.start()
        restarted.set()

    async with RunEngineClient(serving.target) as client, anyio.create_task_group() as tasks:
        with anyio.fail_after(20):
            async for item in client.watch(RUN_ID, options=options(resume=Backoff(attempts_max=60))):
                seen.append(item)
                if item.sequence == 7 and not restarted.is_set():
                    tasks.start_soon(anyio.to_thread.run_sync, restart)
    assert restarted.is_set()
    assert sequences(seen) == list(range(1, 14))
