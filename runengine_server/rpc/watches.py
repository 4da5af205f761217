"""Bounds open watches and ends each when its reader stalls, its token expires or the server drains."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, Generic, Self, TypeVar, cast

from runengine_server.domain.caller import Caller
from runengine_server.domain.errors import ExhaustedError, RunEngineError, UnauthenticatedError
from runengine_server.domain.ids import Tenant
from runengine_server.rpc.draining import draining_error
from runengine_server.rpc.settings import RpcSettings
from runengine_server.service.messages import WatchEnd, WatchMessage, WatchSnapshot

T = TypeVar("T")

EndError = Callable[[dict[str, str]], RunEngineError]
"""Builds the error a watch ends with from the metadata that says how far it came."""

Abort = Callable[[RunEngineError], Awaitable[None]]
"""Ends a call from outside of its task; what it raises, its task raises when it is resumed."""

_LOOK_S: Final = 0.5
"""How often the watches are looked through; shorter when the write timeout is."""


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
        self._look_s = min(_LOOK_S, self.write_timeout_s / 8)
        self._open: dict[Watch[Any], None] = {}  # a set of as many takes three times the memory
        self._by_tenant: Counter[Tenant] = Counter()
        self._aborts: set[asyncio.Task[Exception | None]] = set()
        self._is_looking = False

    @property
    def open_count(self) -> int:
        """How many watches are open."""
        return len(self._open)

    def follow(
        self,
        caller: Caller,
        after_sequence: int | None,
        source: AsyncIterator[WatchMessage],
        *,
        abort: Abort,
        told: Callable[[WatchMessage], T],
    ) -> "Watch[T]":
        """A watch that counts until it is closed, or given up.

        Args:
            caller: whose watch it is; it ends when the token does.
            after_sequence: how far the reader came before.
            source: the messages.
            abort: ends the call when its reader takes nothing more.
            told: what the reader gets for a message.

        Raises:
            ExhaustedError: TOO_MANY_WATCHES.
        """
        self._check_room(caller.tenant)
        watch = Watch(self, caller, after_sequence, source, abort, told)
        self._open[watch] = None
        self._by_tenant[caller.tenant] += 1
        if not self._is_looking:
            self._is_looking = True
            self._look_later()
        return watch

    def release(self, watch: "Watch[Any]") -> None:
        """Count the watch no more; repeating it changes nothing."""
        if watch not in self._open:
            return
        del self._open[watch]
        self._by_tenant[watch.tenant] -= 1
        if not self._by_tenant[watch.tenant]:
            del self._by_tenant[watch.tenant]

    def end_all(self) -> None:
        """Ask every watch to end with DRAINING and the sequence it came to."""
        for watch in tuple(self._open):
            watch.end(draining_error)

    def _look(self) -> None:
        """One timer for all: thousands of watches wait, and each message would start another."""
        at, loop_at = self.now(), asyncio.get_running_loop().time()
        for watch in tuple(self._open):
            watch.end_if_expired(at)
            if watch.writing_since is not None and watch.writing_since + self.write_timeout_s <= loop_at:
                self._spawn_abort(watch)
        self._is_looking = bool(self._open)
        if self._is_looking:
            self._look_later()

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(self._look_s, self._look)

    def _spawn_abort(self, watch: "Watch[Any]") -> None:
        """End a watch whose own task is stuck in a write; the registry keeps the task alive until it is done."""
        watch.giving_up = asyncio.get_running_loop().create_task(watch.give_up())
        self._aborts.add(watch.giving_up)
        watch.giving_up.add_done_callback(self._aborts.discard)
        self.release(watch)

    def _check_room(self, tenant: Tenant) -> None:
        if len(self._open) >= self._max:
            raise _too_many(f"this server follows {self._max} runs already; try another replica", "server")
        if self._by_tenant[tenant] >= self._per_tenant_max:
            raise _too_many(
                f"{self._per_tenant_max} watches of this tenant are open on this server; close some", "tenant"
            )


class Watch(Generic[T]):
    """One open stream: its messages up to the run's end, how far its reader came, and why it must end.

    Whoever iterates writes each message before it asks for the next, so that time between the two is time in which the
    reader takes nothing: when that gets too long, the call is aborted from outside. The status then follows what is
    already buffered, once the reader goes on.

    Attributes:
        tenant: whose watch it is.
        writing_since: when a message was given out that may not be written yet, by the loop's clock.
        giving_up: the abort, once there is one.
    """

    __slots__ = (
        "_abort",
        "_call_task",
        "_end_error",
        "_expires_at",
        "_has_end",
        "_last_sequence",
        "_registry",
        "_source",
        "_told",
        "_waiting",
        "_written_sequence",
        "giving_up",
        "tenant",
        "writing_since",
    )

    def __init__(
        self,
        registry: WatchRegistry,
        caller: Caller,
        after_sequence: int | None,
        source: AsyncIterator[WatchMessage],
        abort: Abort,
        told: Callable[[WatchMessage], T],
    ) -> None:
        """Belongs to the current task, which must be the call's; see `WatchRegistry.follow`."""
        self.tenant = caller.tenant
        self.writing_since: float | None = None
        self.giving_up: asyncio.Task[Exception | None] | None = None
        self._registry = registry
        self._source = source
        self._abort = abort
        self._told = told
        self._expires_at = caller.expires_at
        self._written_sequence = self._last_sequence = after_sequence
        self._has_end = False
        self._call_task = asyncio.current_task()
        self._waiting: asyncio.Task[Any] | None = None
        self._end_error: EndError | None = None
        self.end_if_expired(registry.now())

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> T:
        """What the next message is told as; the one before has been written.

        Raises:
            StopAsyncIteration: after the run's end.
            RunEngineError: what the source raised, or why the watch had to end.
            RuntimeError: the source stopped without saying that the run ended; OK without `end` must never happen.
        """
        self.writing_since = None
        self._written_sequence = self._last_sequence
        if self.giving_up is not None:
            await self._raise_what_aborted()
        self._raise_if_ending()
        self._waiting = waiting = cast("asyncio.Task[Any]", asyncio.current_task())
        cancelled_before = waiting.cancelling()
        try:
            message = await anext(self._source)
        except StopAsyncIteration:
            if not self._has_end:
                raise RuntimeError("the watch stopped before the run's end") from None
            raise
        except asyncio.CancelledError:
            if self._end_error is None or waiting.uncancel() > cancelled_before:
                raise  # the call itself was cancelled
            raise self._end_error(self._progress()) from None
        finally:
            self._waiting = None
        self._raise_if_ending()
        return self._given_out(message)

    async def aclose(self) -> None:
        """End the source, and count no more."""
        self._registry.release(self)
        if isinstance(self._source, AsyncGenerator):
            await self._source.aclose()

    def end(self, error: EndError) -> None:
        """Make the stream end with this error: now if it waits for an event, else after the message being written."""
        if self._end_error is not None:
            return
        self._end_error = error
        if self._waiting is not None:
            self._waiting.cancel()

    def end_if_expired(self, now: datetime) -> None:
        """Make the stream end when its token has."""
        if self._expires_at is not None and self._expires_at <= now:
            self.end(_token_expired)

    async def give_up(self) -> Exception | None:
        """Abort the call from outside its stuck task; returns what that task must raise when it is resumed.

        It is resumed when the reader takes the status. If the reader does not, the task is cancelled: it then holds
        no memory here, and the transport still delivers the status, or drops it with the connection.
        """
        try:
            async with asyncio.timeout(self._registry.write_timeout_s):
                await self._abort(_stalled(self._progress(), self._registry.write_timeout_s))
        except TimeoutError:
            if self._call_task is not None:
                self._call_task.cancel()
        except Exception as error:  # aborted as meant, or the call had just ended by itself
            return error
        return None

    def _given_out(self, message: WatchMessage) -> T:
        told = self._told(message)
        self._has_end = isinstance(message.kind, WatchEnd)
        if not (isinstance(message.kind, WatchSnapshot) and message.kind.more):
            self._last_sequence = message.sequence
        self.writing_since = asyncio.get_running_loop().time()
        return told

    async def _raise_what_aborted(self) -> None:
        """The transport notices an abort only at the next message, so a call resumed after one must end by itself."""
        if self.giving_up is not None and (error := await asyncio.shield(self.giving_up)) is not None:
            raise error

    def _raise_if_ending(self) -> None:
        if self._end_error is not None:
            raise self._end_error(self._progress())

    def _progress(self) -> dict[str, str]:
        return {} if self._written_sequence is None else {"lastSequence": str(self._written_sequence)}


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
