"""The embedded servers serve, keep what they must and leave nothing else behind."""

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from runengine_server.adapters.embedded import (
    EmbeddedError,
    EmbeddedStack,
    start_embedded,
    start_postgres,
    start_valkey,
)


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedStack]:
    """A stack in a temporary directory."""
    with start_embedded() as running:
        yield running


def query(url: str, *statements: str) -> str:
    """What the last statement returns, as text."""

    async def run() -> str:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            for statement in statements:
                value = await connection.fetchval(statement)
            return str(value)
        finally:
            await connection.close()

    return asyncio.run(run())


def ping(url: str) -> bool:
    """Whether the server answers PING."""
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        return bool(client.ping())


def test_both_urls_of_postgres_connect(stack: EmbeddedStack) -> None:
    """PostgreSQL answers by Unix socket without a password and by TCP with it."""
    assert query(stack.database_url, "SELECT version()").startswith("PostgreSQL 1")
    assert query(stack.postgres.tcp_url, "SELECT host(inet_server_addr())") == "127.0.0.1"
    assert query(stack.postgres.tcp_url, "SHOW password_encryption") == "scram-sha-256"


def test_both_urls_of_valkey_connect(stack: EmbeddedStack) -> None:
    """Valkey answers by TCP and by Unix socket."""
    assert ping(stack.redis_url)
    assert ping(stack.valkey.socket_url)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("jit", "off"),
        ("shared_buffers", "128MB"),
        ("max_connections", "200"),
        ("TimeZone", "UTC"),
        ("server_encoding", "UTF8"),
        ("listen_addresses", "127.0.0.1"),
    ],
)
def test_postgres_settings(stack: EmbeddedStack, setting: str, value: str) -> None:
    """The server runs with the documented settings; durability is on."""
    assert query(stack.database_url, f"SHOW {setting}") == value


def test_valkey_is_a_bounded_cache(stack: EmbeddedStack) -> None:
    """Valkey evicts beyond 256 MB and writes nothing to disk."""
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        settings = client.config_get("maxmemory", "maxmemory-policy", "save", "appendonly", "protected-mode")
    assert settings == {
        "maxmemory": str(256 << 20),
        "maxmemory-policy": "allkeys-lru",
        "save": "",
        "appendonly": "no",
        "protected-mode": "yes",
    }


def test_wrong_passwords_are_refused(stack: EmbeddedStack) -> None:
    """Another local user who finds the ports does not get in."""
    password = stack.postgres.tcp_url.split("@")[0].rsplit(":", 1)[1]
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(stack.postgres.tcp_url.replace(password, "wrong"), "SELECT 1")
    address = stack.redis_url.split("@")[1]
    with pytest.raises(redis.AuthenticationError):
        ping(f"redis://:wrong@{address}")
    with pytest.raises(redis.AuthenticationError):
        ping(f"redis://{address}")


def test_files_are_private(stack: EmbeddedStack) -> None:
    """Sockets, data, passwords and logs are closed to group and others."""
    private = ["postgres", "valkey", "postgres.password", "valkey.conf", "postgres.log", "valkey.log"]
    modes = {name: stat.S_IMODE((stack.data_dir / name).stat().st_mode) for name in private}
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes


def test_representation_holds_no_secret(stack: EmbeddedStack) -> None:
    """Logging the stack does not log a password."""
    secrets = [url.split("@")[0].rsplit(":", 1)[1] for url in (stack.redis_url, stack.postgres.tcp_url)]
    assert not any(secret in repr(stack) for secret in secrets)


def test_temporary_directory_and_processes_are_gone(processes_below: Callable[[Path], list[str]]) -> None:
    """After the block neither files nor processes are left, also when it is left by an exception."""
    with pytest.raises(RuntimeError, match="mine"), start_embedded() as running:
        assert len(processes_below(running.data_dir)) >= 3
        raise RuntimeError("mine")
    assert not running.data_dir.exists()
    assert processes_below(running.data_dir) == []


def test_data_outlives_a_restart(data_dir: Path) -> None:
    """A given directory is kept with its data and password; a restart creates nothing anew."""
    with start_postgres(data_dir) as first:
        query(first.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        identity = query(first.url, "SELECT system_identifier FROM pg_control_system()")
    with start_postgres(data_dir) as second:
        assert query(second.url, "SELECT answer FROM kept") == "42"
        assert query(second.url, "SELECT system_identifier FROM pg_control_system()") == identity
        assert query(second.tcp_url, "SELECT 1") == "1"
    assert (data_dir / "postgres" / "PG_VERSION").exists()


def test_log_covers_the_latest_start_only(data_dir: Path) -> None:
    """The log is emptied at a start, so it does not grow from start to start."""
    for _ in range(2):
        with start_postgres(data_dir) as running:
            pass
    assert running.log_path == data_dir / "postgres.log"
    assert running.log_path.read_text().count("ready to accept connections") == 1


def test_two_stacks_side_by_side(stack: EmbeddedStack, data_dir: Path) -> None:
    """Two stacks run at once, each with data of its own."""
    with start_embedded(data_dir) as other:
        query(other.database_url, "CREATE TABLE only_here ()")
        assert query(stack.database_url, "SELECT to_regclass('only_here')") == "None"
        assert ping(other.redis_url)
        assert ping(stack.redis_url)


def test_same_directory_twice_is_refused(data_dir: Path) -> None:
    """A directory in use is refused with the pid that uses it, and its user goes on undisturbed."""
    with start_valkey(data_dir) as running:
        refusal = pytest.raises(EmbeddedError, match=f"already in use by pid {os.getpid()}")
        with refusal, start_embedded(data_dir):
            pass
        assert ping(running.url)


def test_extra_settings_win_and_reserved_ones_are_refused() -> None:
    """Settings are passed on, except those that the lifecycle depends on."""
    with start_postgres(settings={"shared_buffers": "16MB", "max_wal_size": "2GB"}) as running:
        assert query(running.url, "SHOW shared_buffers") == "16MB"
        assert query(running.url, "SHOW max_wal_size") == "2GB"
    with pytest.raises(EmbeddedError, match="port"), start_postgres(settings={"port": "5432"}):
        pass
    with start_valkey(settings={"maxmemory": "8mb"}) as cache, redis.Redis.from_url(cache.url) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(8 << 20)}


def test_long_and_odd_paths_work(data_dir: Path) -> None:
    """A path too long for a Unix socket, with spaces and quotes, still gives both URLs; the short folder goes."""
    awkward = data_dir / 'it\'s a "long" näme, too' / ("x" * 120)
    with start_embedded(awkward) as running:
        assert query(running.database_url, "SELECT 1") == "1"
        assert ping(running.valkey.socket_url)
        short = Path(running.database_url.split("host=")[1].split("&")[0])
        assert short.parent == Path("/tmp")
    assert not short.exists()
    assert (awkward / "postgres").is_dir()


def test_odd_path_of_usual_length(data_dir: Path) -> None:
    """Spaces, quotes, commas, percent signs and non-ASCII letters in a path reach the servers and URLs unharmed."""
    with start_embedded(data_dir.parent / 'it\'s, a "%20" ä&=') as running:
        assert query(running.database_url, "SELECT 1") == "1"
        assert ping(running.valkey.socket_url)
        assert ping(running.redis_url)


def test_servers_survive_the_thread_that_started_them() -> None:
    """The servers belong to the process: the end of the starting thread does not stop them."""
    context = start_embedded()
    started: list[EmbeddedStack] = []
    thread = threading.Thread(target=lambda: started.append(context.__enter__()))
    thread.start()
    thread.join()
    try:
        assert query(started[0].database_url, "SELECT 1") == "1"
        assert ping(started[0].redis_url)
    finally:
        context.__exit__(None, None, None)
    assert not started[0].data_dir.exists()
