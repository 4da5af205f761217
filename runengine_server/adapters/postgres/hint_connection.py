"""A connection of its own for LISTEN or NOTIFY, which notices within seconds that the other side is gone."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from runengine_server.adapters.postgres.database import COMMAND_TIMEOUT_S, CONNECT_TIMEOUT_S, Connection

CHANNEL = "runengine"

LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What a connection that fails raises; the caller connects again."""

_SERVER_SETTINGS = {
    "application_name": "runengine hints",
    "statement_timeout": "10s",
    # A hint need not be durable.
    "synchronous_commit": "off",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
_KEEPALIVE_IDLE_S = 5
_KEEPALIVE_INTERVAL_S = 2
_KEEPALIVE_COUNT = 3
_USER_TIMEOUT_MS = 10_000


@asynccontextmanager
async def hint_connection(database_url: str) -> AsyncIterator[Connection]:
    """A connection that dies with its peer: a listener never writes, so only keepalive tells it.

    Args:
        database_url: must lead to the server itself: LISTEN does not survive a transaction pooler.
    """
    connection = await asyncpg.connect(
        database_url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        statement_cache_size=0,
        server_settings=_SERVER_SETTINGS,
    )
    try:
        _watch_peer(connection)
        yield connection
    finally:
        connection.terminate()


def _watch_peer(connection: Connection) -> None:
    transport = getattr(connection, "_transport", None)  # asyncpg has no public way to its socket
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", _KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),
    ):
        option = getattr(socket, name, None)  # not every platform has all of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
