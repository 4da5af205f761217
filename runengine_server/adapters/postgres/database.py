"""Connections to PostgreSQL: bounded in number and in time, errors said in the core's words."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from runengine_server.domain.errors import InvalidError, UnavailableError

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_TIMEOUT_S = 2.0
ACQUIRE_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0

logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)  # a database that is away is told of by the observer

SERVER_SETTINGS = {
    "application_name": "runengine",
    "timezone": "UTC",
    "jit": "off",
    "statement_timeout": "15s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "15s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}

# The hot statements find rows by primary key and nothing else; a first tick after a bulk load must not hash history.
PINNED_PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # The first rows of an index, in its order: a bitmap would read and sort all that wait, where statistics say few do.
    "enable_bitmapscan": "off",
}

_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that ends in the middle of an operation
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,  # nothing has happened, and it may again
    asyncpg.SerializationError,
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    OSError,
    TimeoutError,
    asyncio.TimeoutError,
)


async def _keep_as_is(connection: Connection) -> None:
    """No session state is ever changed, so a connection needs no reset (which would cost a round trip)."""


class Database:
    """A pool of connections; every call has a deadline and raises UnavailableError when the server is not there."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        """Use `open_database` instead."""
        self._pool = pool
        self._idle: list[Connection] = []
        self._waiting = 0

    async def fetch(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Every row of a statement."""
        async with self.connection() as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """The first row of a statement, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchval(query, *arguments)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for a few statements.

        Raises:
            UnavailableError: DATABASE_UNAVAILABLE, with when to try again.
        """
        with database_errors():
            # What was used last is at hand: going through the pool each time costs 50 µs, two tasks and a timer.
            while self._idle and _is_lost(self._idle[-1]):
                await self._pool.release(self._idle.pop())  # type: ignore[arg-type]
            connection = self._idle.pop() if self._idle else await self._acquire()
            try:
                yield connection
            except BaseException:
                await self._pool.release(connection)  # type: ignore[arg-type]
                raise
            if self._waiting:
                await self._pool.release(connection)  # type: ignore[arg-type]
            else:
                self._idle.append(connection)

    async def _acquire(self) -> Connection:
        self._waiting += 1
        try:
            return await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S)  # type: ignore[return-value]
        finally:
            self._waiting -= 1

    @property
    def open_count(self) -> int:
        """How many connections there are."""
        return self._pool.get_size()

    @property
    def busy_count(self) -> int:
        """How many of them are in use."""
        return self._pool.get_size() - self._pool.get_idle_size() - len(self._idle)

    @property
    def waiting_count(self) -> int:
        """How many callers wait for one."""
        return self._waiting

    async def close(self) -> None:
        """Give every connection back; none must be in use."""
        while self._idle:
            await self._pool.release(self._idle.pop())  # type: ignore[arg-type]
        await self._pool.close()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection in a read-only transaction that sees one state of the database throughout."""
        async with (
            self.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


def _is_lost(connection: Connection) -> bool:
    """True when the server has closed it; the pool may have taken it back for that, and then it answers nothing."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


class database_errors:  # noqa: N801 - reads as a statement: `with database_errors():`
    """Turns what asyncpg raises into the core's errors.

    When the server is away, restarting or too slow: UnavailableError. For text no database can hold: InvalidError.
    """

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Translate."""
        if isinstance(error, _UNAVAILABLE):
            raise UnavailableError(
                "DATABASE_UNAVAILABLE",
                "the database cannot be reached right now; try again shortly",
                retry_after_s=1.0,
            ) from error
        if isinstance(error, asyncpg.CharacterNotInRepertoireError) or (
            isinstance(error, asyncpg.DataError) and isinstance(error.__cause__, UnicodeEncodeError)
        ):
            raise InvalidError(
                "VALIDATION_FAILED", "a text contains U+0000 or half a surrogate pair; send plain Unicode text"
            ) from error


@asynccontextmanager
async def open_database(
    database_url: str,
    *,
    connections_max: int,
    settings: Mapping[str, str] | None = None,
    statement_cache_size: int = 200,
) -> AsyncIterator[Database]:
    """A database with up to `connections_max` connections; `settings` go on top of our server settings."""
    with database_errors():
        pool = await asyncpg.create_pool(
            database_url,
            min_size=1,
            max_size=connections_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            statement_cache_size=statement_cache_size,
            reset=_keep_as_is,
            server_settings={**SERVER_SETTINGS, **(settings or {})},
        )
    database = Database(pool)
    try:
        yield database
    finally:
        try:
            await asyncio.wait_for(database.close(), 5)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()
