"""Bounds open watches and ends each when its reader stalls, its token expires or the server drains."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import anyio

from runengine_server.domain.caller import Caller
from runengine_server.domain.errors import ExhaustedError, RunEngineError, UnauthenticatedError
from runengine_server.domain.ids import Tenant
from runengine_server.rpc.draining import draining_error
from runengine_server.rpc.settings import RpcSettings
from runengine_server.service.messages import WatchEnd, WatchMessage, WatchSnapshot

EndError = Callable[[dict[str, str]], RunEngineError]
"""Builds the error a watch ends with from the metadata that says how far it came."""

Abort = Callable[[RunEngineError], Awaitable[None]]
"""Ends a call from outside of its task; what it raises, its task raises when it is resumed."""

_EXPIRY_RECHECK_S = 3600.0
"""Longest timer; the wall clock is read again after it, as it may have been set."""


def utc_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


class WatchRegistry:
    """The open watches of this server."""

    def __init__(self, settings: RpcSettings, now: Callable[[], datetime] = utc_now) -> None:
        """Start with none open; `now` is the wall clock that tokens expire by."""
        self.write_timeout_s = settings.watch_write_timeout_s
        self.now = now
        self._max = settings.watches_max
        self._per_tenant_max = settings.watches_per_tenant_max
        self._open: set[Watch] = set()
        self._by_tenant: Counter[Tenant] = Counter()
        self._aborts: set[asyncio.Task[Exception | None]] = set()

    @property
    def open_count(self) -> int:
        """How many watches are open."""
        return len(self._open)

    @contextmanager
    def watch(self, caller: Caller, after_sequence: int | None, abort: Abort) -> Iterator["Watch"]:
        """A watch that counts until the block ends, or it is given up.

        Args:
            caller: whose watch it is; it ends when the token does.
            after_sequence: how far the reader came before.
            abort: ends the call when its reader takes nothing more.

        Raises:
            ExhaustedError: TOO_MANY_WATCHES.
        """
        self._check_room(caller.tenant)
        watch = Watch(self, caller, after_sequence, abort)
        self._open.add(watch)
        self._by_tenant[caller.tenant] += 1
        try:
            yield watch
        finally:
            self.release(watch)

    def release(self, watch: "Watch") -> None:
        """Count the watch no more; repeating it changes nothing."""
        if watch not in self._open:
            return
        watch.stop_timers()
        self._open.remove(watch)
        self._by_tenant[watch.tenant] -= 1
        if not self._by_tenant[watch.tenant]:
            del self._by_tenant[watch.tenant]

    def end_all(self) -> None:
        """Ask every watch to end with DRAINING and the sequence it came to."""
        for watch in tuple(self._open):
            watch.end(draining_error)

    def spawn_abort(self, watch: "Watch") -> None:
        """End a watch whose own task is stuck in a write; the registry keeps the task alive until it is done."""
        watch.giving_up = asyncio.get_running_loop().create_task(watch.give_up())
        self._aborts.add(watch.giving_up)
        watch.giving_up.add_done_callback(self._aborts.discard)

    def _check_room(self, tenant: Tenant) -> None:
        if len(self._open) >= self._max:
            raise _too_many(f"this server follows {self._max} runs already; try another replica", "server")
        if self._by_tenant[tenant] >= self._per_tenant_max:
            raise _too_many(
                f"{self._per_tenant_max} watches of this tenant are open on this server; close some", "tenant"
            )


class Watch:
    """One open stream: how far its reader came, and why it must end.

    An asynchronous generator does not see its own write block: it is merely not resumed. So every message is yielded
    under a timer, and the timer aborts the call from outside. The status then follows what is already buffered, once
    the reader goes on.
    """

    def __init__(
        self,
        registry: WatchRegistry,
        caller: Caller,
        after_sequence: int | None,
        abort: Abort,
    ) -> None:
        """Belongs to the current task, which must be the call's; see `WatchRegistry.watch`."""
        self.tenant = caller.tenant
        self.giving_up: asyncio.Task[Exception | None] | None = None
        self._registry = registry
        self._abort = abort
        self._expires_at = caller.expires_at
        self._last_sequence = after_sequence
        self._loop = asyncio.get_running_loop()
        self._call_task = asyncio.current_task()
        self._end_error: EndError | None = None
        self._waiting: anyio.CancelScope | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._expiry_timer: asyncio.TimerHandle | None = None
        self._check_expiry()

    async def follow(self, source: AsyncIterator[WatchMessage]) -> AsyncGenerator[WatchMessage, None]:
        """The messages of the source up to its end, or until this watch is asked to end.

        Raises:
            RunEngineError: what the source raised, or why the watch had to end.
            RuntimeError: the source stopped without saying that the run ended; OK without `end` must never happen.
        """
        is_ended = False
        try:
            while (message := await self._next(source)) is not None:
                is_ended = isinstance(message.kind, WatchEnd)
                yield message
                del message  # it may be large, and the next one hours away
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()
        if not is_ended:
            raise RuntimeError("the watch stopped before the run's end")

    @contextmanager
    def writing(self, message: WatchMessage) -> Iterator[None]:
        """Around the `yield` of a message: left when the transport took it, given up when that takes too long."""
        self._write_timer = self._loop.call_later(self._registry.write_timeout_s, self._registry.spawn_abort, self)
        try:
            yield
        finally:
            self._write_timer.cancel()
        if not (isinstance(message.kind, WatchSnapshot) and message.kind.more):
            self._last_sequence = message.sequence

    def end(self, error: EndError) -> None:
        """Make the stream end with this error: now if it waits for an event, else after the message being written."""
        if self._end_error is None:
            self._end_error = error
        if self._waiting is not None:
            self._waiting.cancel()

    async def give_up(self) -> Exception | None:
        """Abort the call from outside its stuck task; returns what that task must raise when it is resumed.

        It is resumed when the reader takes the status. If the reader does not, the task is cancelled: it then holds
        no memory here, and the transport still delivers the status, or drops it with the connection.
        """
        self._registry.release(self)
        try:
            async with asyncio.timeout(self._registry.write_timeout_s):
                await self._abort(_stalled(self._progress(), self._registry.write_timeout_s))
        except TimeoutError:
            if self._call_task is not None:
                self._call_task.cancel()
        except Exception as error:  # aborted as meant, or the call had just ended by itself
            return error
        return None

    def stop_timers(self) -> None:
        """Let nothing happen to the call any more."""
        for timer in (self._write_timer, self._expiry_timer):
            if timer is not None:
                timer.cancel()

    async def _next(self, source: AsyncIterator[WatchMessage]) -> WatchMessage | None:
        """The source's next message, None at its end; waiting for it stops when the watch must end."""
        await self._raise_if_given_up()
        self._raise_if_ending()
        message: WatchMessage | None = None
        with anyio.CancelScope() as self._waiting:
            message = await anext(source, None)
        self._waiting = None
        self._raise_if_ending()
        return message

    def _check_expiry(self) -> None:
        if self._expires_at is None:
            return
        left_s = (self._expires_at - self._registry.now()).total_seconds()
        if left_s <= 0:
            self.end(_token_expired)
        else:
            self._expiry_timer = self._loop.call_later(min(left_s, _EXPIRY_RECHECK_S), self._check_expiry)

    async def _raise_if_given_up(self) -> None:
        """The transport notices an abort only at the next message, so a call resumed after one must end by itself."""
        if self.giving_up is None:
            return
        error = await asyncio.shield(self.giving_up)
        if error is not None:
            raise error

    def _raise_if_ending(self) -> None:
        if self._end_error is not None:
            raise self._end_error(self._progress())

    def _progress(self) -> dict[str, str]:
        return {} if self._last_sequence is None else {"lastSequence": str(self._last_sequence)}


def _too_many(message: str, subject: str) -> RunEngineError:
    return ExhaustedError("TOO_MANY_WATCHES", message, metadata={"subject": subject})


def _token_expired(progress: dict[str, str]) -> RunEngineError:
    return UnauthenticatedError(
        "TOKEN_INVALID", "the token expired; watch again with a new one, after the last sequence", metadata=progress
    )


def _stalled(progress: dict[str, str], timeout_s: float) -> RunEngineError:
    return ExhaustedError(
        "WATCH_STALLED",
        f"the reader took nothing for {timeout_s:g} s; watch again after the last sequence and read faster",
        metadata=progress,
    )
