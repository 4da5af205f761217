"""Runs PostgreSQL and Valkey together in one data directory: all that one engine needs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runengine_server.adapters.embedded.account import choose_account
from runengine_server.adapters.embedded.binaries import postgres_binaries, valkey_binary
from runengine_server.adapters.embedded.data_directory import opened_directory
from runengine_server.adapters.embedded.postgres import RunningPostgres, run_postgres
from runengine_server.adapters.embedded.valkey import RunningValkey, run_valkey


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedStack:
    """Both servers accept connections."""

    database_url: str
    """PostgreSQL by Unix socket, without a secret; `postgres.tcp_url` is the one for other tools."""
    redis_url: str = field(repr=False)
    """Valkey by 127.0.0.1, with its password."""
    data_dir: Path
    postgres: RunningPostgres
    valkey: RunningValkey


@contextmanager
def start_embedded(
    data_dir: Path | None = None,
    *,
    postgres_bin: Path | None = None,
    valkey_bin: Path | None = None,
    postgres_settings: Mapping[str, str] | None = None,
    valkey_settings: Mapping[str, str] | None = None,
) -> Iterator[EmbeddedStack]:
    """PostgreSQL and Valkey run inside the block, and on no account longer than this process.

    Start them before importing grpc: its fork handlers and the fork that starts a server as another account do not
    go well together.

    Args:
        data_dir: Kept and reused, with the data in it; None means a temporary directory, removed at the end however
            this process ends.
        postgres_bin: A PostgreSQL bin directory to use instead of looking for one.
        valkey_bin: A Valkey server file to use instead of looking for one.
        postgres_settings: See `start_postgres`.
        valkey_settings: See `start_valkey`.

    Raises:
        EmbeddedError: With what to change, when one cannot be started or the directory is in use.
    """
    account = choose_account(data_dir)
    with (
        postgres_binaries(postgres_bin, account) as binaries,
        valkey_binary(valkey_bin, account) as binary,
        opened_directory(data_dir, account) as directory,
        run_valkey(directory, binary, valkey_settings or {}) as valkey,
        run_postgres(directory, binaries, postgres_settings or {}) as postgres,
    ):
        yield EmbeddedStack(
            database_url=postgres.url,
            redis_url=valkey.url,
            data_dir=directory.path,
            postgres=postgres,
            valkey=valkey,
        )
