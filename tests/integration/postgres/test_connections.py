"""Connections that the server closes are replaced, also those that lie idle at hand."""

import anyio
import asyncpg
import pytest

from runengine_server.adapters.postgres.database import open_database

pytestmark = pytest.mark.anyio


async def test_a_connection_that_was_closed_while_idle_is_replaced(database_url: str) -> None:
    """After the server has ended an idle connection the next statement has another one, at once."""
    async with open_database(database_url, connections_max=1) as database:
        pid = await database.fetchval("SELECT pg_backend_pid()")
        (idle,) = database._idle
        ended = anyio.Event()
        idle.add_termination_listener(lambda _: ended.set())
        killer = await asyncpg.connect(database_url)
        try:
            assert await killer.fetchval("SELECT pg_terminate_backend($1)", pid)
        finally:
            await killer.close()
        with anyio.fail_after(10):
            await ended.wait()
        assert await database.fetchval("SELECT pg_backend_pid()") != pid
        assert len(database._idle) == 1
