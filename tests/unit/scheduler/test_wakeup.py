"""The bell of the pipelines: no ring is lost, and each wakes one."""

import anyio
import anyio.lowlevel
import pytest

from runengine_server.scheduler.wakeup import Wakeup

pytestmark = pytest.mark.anyio

LONG_S = 60.0


async def test_a_ring_is_remembered_until_somebody_waits() -> None:
    """A ring that nobody waits for makes the next wait return at once, and only that one."""
    bell = Wakeup()
    bell.ring()
    bell.ring()
    assert await bell.wait(LONG_S) is True
    assert await bell.wait(0.001) is False


async def test_each_ring_wakes_one() -> None:
    """Two waiters need two rings, in the order they came."""
    bell = Wakeup()
    woken: list[int] = []

    async def wait(number: int) -> None:
        await bell.wait(LONG_S)
        woken.append(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, 1)
            tasks.start_soon(wait, 2)
            await anyio.wait_all_tasks_blocked()
            bell.ring()
            await anyio.wait_all_tasks_blocked()
            assert woken == [1]
            bell.ring()
    assert woken == [1, 2]


async def test_a_ring_passes_waiters_that_have_gone() -> None:
    """A waiter that was cancelled, or timed out, swallows no ring."""
    bell = Wakeup()
    woken = anyio.Event()

    async def wait() -> None:
        await bell.wait(LONG_S)
        woken.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            gone = anyio.CancelScope()
            tasks.start_soon(_wait_in, gone, bell)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            gone.cancel()
            assert await bell.wait(0.0) is False
            bell.ring()
            await woken.wait()


async def test_a_ring_in_the_moment_of_the_timeout_is_heard() -> None:
    """A waiter that is rung and timed out at once says it was rung."""
    bell = Wakeup()
    heard: list[bool] = []

    async def wait() -> None:
        heard.append(await bell.wait(0.0))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        bell.ring()
    if heard == [False]:
        assert await bell.wait(LONG_S) is True  # nobody waited any more: it was remembered
    else:
        assert heard == [True]


async def _wait_in(scope: anyio.CancelScope, bell: Wakeup) -> None:
    with scope:
        await bell.wait(LONG_S)
