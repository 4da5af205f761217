"""Bells inside a process: who is woken, by what, and that nothing stays behind."""

import asyncio
from contextlib import closing

import pytest

from runengine_server.adapters.postgres.event_hub import EventHub
from runengine_server.domain.ids import RunKey

pytestmark = pytest.mark.anyio

RUN, OTHER = RunKey(1), RunKey(2)
LIVENESS_S = 5.0


async def test_rings_between_two_waits_are_heard_once() -> None:
    """Whatever rang since the last wait ends the next one at once, and only that one; other runs' rings do not."""
    hub = EventHub()
    with closing(hub.subscribe(RUN)) as bell:
        hub.wake([RUN])
        hub.wake_all()
        hub.wake([OTHER])
        assert bell.wait(LIVENESS_S).result()
        assert not await bell.wait(0)


async def test_a_ring_wakes_all_who_wait() -> None:
    """One ring ends every wait for the run, and has then been heard by each."""
    hub = EventHub()
    with closing(hub.subscribe(RUN)) as one, closing(hub.subscribe(RUN)) as two, closing(hub.subscribe(OTHER)) as other:
        waits = [one.wait(LIVENESS_S), two.wait(LIVENESS_S)]
        elsewhere = other.wait(0)
        hub.wake([RUN])
        assert [wait.result() for wait in waits] == [True, True]
        assert not await elsewhere
        assert not await one.wait(0)


async def test_each_wait_runs_out_by_itself() -> None:
    """A wait ends after its own time and not before, whatever longer one was begun first; then the bell can ring."""
    hub, loop = EventHub(), asyncio.get_running_loop()
    with (
        closing(hub.subscribe(RUN)) as patient,
        closing(hub.subscribe(RUN)) as quick,
        closing(hub.subscribe(OTHER)) as other,
    ):
        longest, began = patient.wait(60), loop.time()
        longer, short = other.wait(0.2), quick.wait(0.1)
        async with asyncio.timeout(LIVENESS_S):
            assert not await short
            assert loop.time() - began >= 0.098  # the clock has whole milliseconds
            assert not await longer
            assert loop.time() - began >= 0.198
            assert not longest.done()
            again = quick.wait(60)
            hub.wake([RUN])
            assert await again
            assert await longest


async def test_a_ring_after_the_time_is_not_lost() -> None:
    """What rings between the end of a wait's time and the next wait ends that one."""
    hub = EventHub()
    with closing(hub.subscribe(RUN)) as bell:
        assert not await bell.wait(0)
        hub.wake([RUN])
        assert bell.wait(LIVENESS_S).result()


async def test_a_wait_that_is_given_up() -> None:
    """Rings and the time pass a cancelled wait by; its watcher can wait again, and leaves nothing when it goes."""
    hub = EventHub()
    with closing(hub.subscribe(RUN)) as bell, closing(hub.subscribe(RUN)) as other:
        bell.wait(0).cancel()
        assert not await other.wait(0.1)
        bell.wait(LIVENESS_S).cancel()
        hub.wake([RUN])
        bell.wait(LIVENESS_S).cancel()
        assert hub.watched() == [RUN]
        again = bell.wait(LIVENESS_S)
        hub.wake([RUN])
        assert again.result()
    assert hub.watched() == []
    with closing(hub.subscribe(RUN)) as bell:
        bell.wait(LIVENESS_S).cancel()
    assert hub.watched() == []
    hub.wake([RUN])
