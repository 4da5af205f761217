"""A watch by itself: how it ends, and what it does to the task that iterates it."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import RunEngineError
from runengine_server.domain.ids import RunId, Tenant
from runengine_server.rpc.draining import draining_error
from runengine_server.rpc.settings import RpcSettings
from runengine_server.rpc.watches import Watch, WatchRegistry
from runengine_server.service.messages import WatchBookmark, WatchMessage

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIVENESS_S = 5.0


class Source:
    """Says one thing, then nothing; knows whether it was closed."""

    def __init__(self) -> None:
        self.is_waiting = asyncio.Event()
        self.is_closed = False

    async def messages(self) -> AsyncGenerator[WatchMessage, None]:
        """What a watch is made of."""
        try:
            yield WatchMessage(run_id=RunId("r"), sequence=7, kind=WatchBookmark(server_time=NOW))
            self.is_waiting.set()
            await asyncio.Event().wait()
        finally:
            self.is_closed = True


class Followed:
    """A watch that a task of its own iterates."""

    def __init__(self, *, write_timeout_s: float = LIVENESS_S, expires_at: datetime | None = None) -> None:
        self.now = NOW
        self.registry = WatchRegistry(RpcSettings(watch_write_timeout_s=write_timeout_s), lambda: self.now)
        self.source = Source()
        self.caller = Caller(
            principal="ann", tenant=Tenant("acme"), scopes=frozenset({Scope.RUN_READ}), expires_at=expires_at
        )
        self.aborted: list[RunEngineError] = []
        self.has_aborted = asyncio.Event()
        self.cancels_left = 0

    async def abort(self, error: RunEngineError) -> None:
        """Remembers what the call was ended with."""
        self.aborted.append(error)
        self.has_aborted.set()

    def open(self) -> Watch[int]:
        """The watch, told as sequences; the calling task is the call's."""
        return self.registry.follow(
            self.caller, None, self.source.messages(), abort=self.abort, told=lambda message: message.sequence
        )

    async def follow(self) -> list[int]:
        """Iterate to the end."""
        watch = self.open()
        try:
            return [sequence async for sequence in watch]
        finally:
            self.cancels_left = asyncio.current_task().cancelling()  # type: ignore[union-attr]
            await watch.aclose()

    async def waiting(self) -> "asyncio.Task[list[int]]":
        """The task, once its watch waits."""
        task = asyncio.ensure_future(self.follow())
        async with asyncio.timeout(LIVENESS_S):
            await self.source.is_waiting.wait()
        return task


async def test_a_watch_that_waits_ends_when_asked() -> None:
    """The task goes on with the first error it was asked to end with, and is not cancelled by that."""
    followed = Followed()
    task = await followed.waiting()
    followed.registry.end_all()
    followed.registry.end_all()
    with pytest.raises(RunEngineError) as caught:
        await asyncio.wait_for(task, LIVENESS_S)
    assert (caught.value.reason, caught.value.metadata) == ("DRAINING", {"lastSequence": "7"})
    assert followed.cancels_left == 0
    assert followed.source.is_closed
    assert followed.registry.open_count == 0


@pytest.mark.parametrize("is_ending_first", [True, False])
async def test_a_call_cancelled_while_its_watch_ends_is_cancelled(is_ending_first: bool) -> None:
    """A cancellation from outside is not swallowed by the watch's own, whichever comes first."""
    followed = Followed()
    task = await followed.waiting()
    if is_ending_first:
        followed.registry.end_all()
    task.cancel()
    followed.registry.end_all()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, LIVENESS_S)
    assert followed.cancels_left == 1
    assert followed.source.is_closed
    assert followed.registry.open_count == 0


async def test_an_end_during_a_write_comes_after_it() -> None:
    """A watch that is asked to end while a message is being written says so when asked for the next."""
    followed = Followed()
    watch = followed.open()
    assert await anext(watch) == 7
    watch.end(draining_error)
    with pytest.raises(RunEngineError) as caught:
        await anext(watch)
    assert caught.value.metadata == {"lastSequence": "7"}
    await watch.aclose()
    assert followed.source.is_closed


async def test_a_token_that_expires_ends_its_watch() -> None:
    """By the wall clock, whenever that is set."""
    followed = Followed(write_timeout_s=0.4, expires_at=NOW + timedelta(hours=5))
    task = await followed.waiting()
    followed.now = NOW + timedelta(hours=5)
    with pytest.raises(RunEngineError) as caught:
        await asyncio.wait_for(task, LIVENESS_S)
    assert caught.value.reason == "TOKEN_INVALID"


async def test_a_write_that_takes_too_long_is_aborted_once() -> None:
    """Its place is free at once; a watch that waits for events may do so for any time."""
    followed = Followed(write_timeout_s=0.2, expires_at=NOW + timedelta(hours=5))
    waiting = await followed.waiting()
    stuck = followed.open()
    assert await anext(stuck) == 7
    assert followed.registry.open_count == 2
    async with asyncio.timeout(LIVENESS_S):
        await followed.has_aborted.wait()
    assert followed.registry.open_count == 1
    followed.now = NOW + timedelta(hours=5)  # the watches are looked through again
    with pytest.raises(RunEngineError) as caught:
        await asyncio.wait_for(waiting, LIVENESS_S)
    assert caught.value.reason == "TOKEN_INVALID"
    assert [error.reason for error in followed.aborted] == ["WATCH_STALLED"]
    await stuck.aclose()
