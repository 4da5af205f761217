"""`migrate` and `serve` say in one line what is wrong with the database, and never its password."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator

import anyio
import asyncpg
import pytest

from ...conftest import Stack
from ...support.databases import with_database

COMMANDS = (["migrate"], ["serve"], ["serve", "--migrate"])
PASSWORD = "hunter2-s3cret"


def server(command: list[str], database_url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command, ended, with these settings and no others."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RUNENGINE_", "REDIS", "PG"))}
    return subprocess.run(
        [sys.executable, "-m", "runengine_server", *command],
        env={**kept, "RUNENGINE_ANONYMOUS": "true", "DATABASE_URL": database_url, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What the command said, which must be one line without a secret."""
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr + done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("runengine-server: ")
    return line


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that is taken, but on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def empty_url(stack: Stack) -> Iterator[str]:
    """A database without anything in it."""
    name = f"check_{uuid.uuid4().hex[:8]}"
    anyio.run(_execute, stack.database_url, f'CREATE DATABASE "{name}"')
    try:
        yield with_database(stack.database_url, name)
    finally:
        anyio.run(_execute, stack.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_url_that_is_none(command: list[str]) -> None:
    """Something else than a PostgreSQL URL is exit status 2, and is not repeated."""
    done = server(command, f"x-{PASSWORD}")
    assert done.returncode == 2
    assert "DATABASE_URL is not the URL of a PostgreSQL database" in one_line(done)


@pytest.mark.parametrize(
    "url",
    [f"postgresql://ann:{PASSWORD}/x@127.0.0.1/y", f"postgresql://ann:{PASSWORD}@127.0.0.1:port/y", "redis://h:1/0"],
)
def test_url_that_cannot_be_read(url: str) -> None:
    """A URL that breaks in the middle of its password is not quoted either."""
    done = server(["migrate"], url)
    assert done.returncode == 2
    one_line(done)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nobody_listens(command: list[str], dead_port: int) -> None:
    """A database that is not there is exit status 1."""
    done = server(command, f"postgresql://ann:{PASSWORD}@127.0.0.1:{dead_port}/y")
    assert done.returncode == 1
    assert "the database of DATABASE_URL cannot be reached: " in one_line(done)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_database_that_does_not_exist(command: list[str], stack: Stack) -> None:
    """A server that knows no such database is exit status 1, in the server's words."""
    done = server(command, with_database(stack.database_url, "nowhere"))
    assert done.returncode == 1
    assert 'database "nowhere" does not exist' in one_line(done)


def test_schema_that_is_missing(empty_url: str) -> None:
    """`serve` on a database without the schema says how to get it; `migrate` then makes it."""
    done = server(["serve"], empty_url)
    assert done.returncode == 1
    assert "runengine-server migrate" in one_line(done)
    assert server(["migrate"], empty_url).returncode == 0


def test_listen_url(database_url: str, dead_port: int) -> None:
    """The second URL is checked and named as well."""
    done = server(["serve"], database_url, RUNENGINE_LISTEN_DATABASE_URL=f"postgresql://127.0.0.1:{dead_port}/y")
    assert done.returncode == 1
    assert "the database of RUNENGINE_LISTEN_DATABASE_URL cannot be reached" in one_line(done)


def test_password_in_the_servers_words(stack: Stack) -> None:
    """A password that comes back in an error is masked, also where it was percent-encoded."""
    base = with_database(stack.database_url, PASSWORD)
    separator = "&" if "?" in base else "?"
    done = server(["migrate"], f"{base}{separator}password={PASSWORD.replace('-', '%2D')}")
    assert done.returncode == 1
    assert 'database "***" does not exist' in one_line(done)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
