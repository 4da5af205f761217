"""Fresh databases: clones of one migrated template, each an installation of its own."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import asyncpg

from runengine_server.adapters.postgres.migrate import migrate


def with_database(url: str, name: str) -> str:
    """The URL with another database: its path, before any query."""
    base, question, query = url.partition("?")
    scheme, slashes, rest = base.partition("://")
    return f"{scheme}{slashes}{rest.partition('/')[0]}/{name}{question}{query}"


def make_template(maintenance_url: str, name: str) -> str:
    """A migrated database with this name exists, and nobody is connected to it; returns the name."""

    async def prepare() -> None:
        await _execute(maintenance_url, f'CREATE DATABASE "{name}"')
        await migrate(with_database(maintenance_url, name))

    anyio.run(prepare)
    return name


@contextmanager
def cloned_database(maintenance_url: str, template: str) -> Iterator[str]:
    """A clone of the template exists inside the block; yields its URL.

    It gets an installation id of its own, so that clones share nothing in Redis.
    """
    name = f"{template}_{uuid.uuid4().hex[:8]}"
    url = with_database(maintenance_url, name)

    async def prepare() -> None:
        await _execute(maintenance_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        await _execute(url, "UPDATE installation SET id = gen_random_uuid()")

    anyio.run(prepare)
    try:
        yield url
    finally:
        anyio.run(_execute, maintenance_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
