"""Runs a private PostgreSQL for as long as a block lasts: cluster creation, start, readiness, stop.

Durability is never traded away: fsync and synchronous_commit stay on, also in a temporary directory.

Who gets in: the Unix socket lies in the cluster's own 0700 folder, where only the server's account and root can
reach it, the same two who could rewrite the cluster's files; it asks for no password, so `url` is free of secrets
(and a connection costs no SCRAM round trips). TCP listens on 127.0.0.1 only, for tools that know no sockets, and asks
for the random password that `postgres.password` (0600) keeps beside the cluster.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from runengine_server.adapters.embedded.account import choose_account
from runengine_server.adapters.embedded.binaries import PostgresBinaries, postgres_binaries
from runengine_server.adapters.embedded.cluster import (
    DATABASE_USER,
    check_cluster,
    create_cluster,
    postmaster_status,
    read_password,
)
from runengine_server.adapters.embedded.data_directory import DataDirectory, locked, opened_directory, socket_directory
from runengine_server.adapters.embedded.errors import EmbeddedError
from runengine_server.adapters.embedded.keeper import Kept
from runengine_server.adapters.embedded.port import start_on_free_port

DATABASE = "postgres"

# After kill −9 of a loaded server, recovery replays up to max_wal_size.
START_S_MAX = 120.0

# `fast` writes a checkpoint; after this long it becomes `immediate`, which the next start recovers from.
FAST_SHUTDOWN_S = 10

DEFAULT_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_connections": "200",
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "track_io_timing": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}

# What the lifecycle itself depends on.
_RESERVED = frozenset(
    {
        "data_directory",
        "external_pid_file",
        "listen_addresses",
        "log_destination",
        "logging_collector",
        "port",
        "unix_socket_directories",
        "unix_socket_permissions",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPostgres:
    """A server that accepts connections."""

    url: str
    """By Unix socket; fastest, and without a secret in it."""
    tcp_url: str = field(repr=False)
    """By 127.0.0.1, with the password."""
    pid: int
    data_dir: Path
    log_path: Path
    bin_dir: Path


@contextmanager
def start_postgres(
    data_dir: Path | None = None, *, postgres_bin: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[RunningPostgres]:
    """A PostgreSQL server runs inside the block.

    Args:
        data_dir: Kept and reused; None means a temporary directory that is removed at the end.
        postgres_bin: A bin directory to use instead of looking for one.
        settings: Server settings that replace or add to `DEFAULT_SETTINGS`, e.g. `{"shared_buffers": "1GB"}`.

    Raises:
        EmbeddedError: With what to change, when it cannot be started.
    """
    account = choose_account(data_dir)
    with (
        postgres_binaries(postgres_bin, account) as binaries,
        opened_directory(data_dir, account) as directory,
        run_postgres(directory, binaries, settings or {}) as running,
    ):
        yield running


@contextmanager
def run_postgres(
    directory: DataDirectory, binaries: PostgresBinaries, settings: Mapping[str, str]
) -> Iterator[RunningPostgres]:
    """The server runs in a directory that is already open (see `start_postgres`)."""
    if reserved := sorted(_RESERVED & settings.keys()):
        raise EmbeddedError(f"these PostgreSQL settings are chosen by the embedded server: {', '.join(reserved)}")
    cluster = directory.path / "postgres"
    with ExitStack() as stack:
        lock_fd = stack.enter_context(locked(directory, "postgres"))
        fds = (lock_fd, *directory.inherited_fds, *binaries.inherited_fds)
        log_path = directory.start_log("postgres")
        if cluster.is_dir():
            check_cluster(cluster, binaries)
        else:
            create_cluster(directory, binaries, fds)
        sockets, socket_fds = stack.enter_context(socket_directory(directory, cluster, ".s.PGSQL.65535"))
        options = {**DEFAULT_SETTINGS, **settings, "unix_socket_directories": _quoted(sockets)}
        command = [str(binaries.bin_dir / "postgres"), "-D", str(cluster), "-c", "listen_addresses=127.0.0.1"]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        kept = Kept(
            name="postgres",
            command=command,
            account=directory.account,
            log_path=log_path,
            inherited_fds=(*fds, *socket_fds),
            # Nothing of a temporary cluster is needed again, so it need not write a checkpoint first.
            gentle_signal="QUIT" if directory.is_temporary else "INT",
            patience_s=FAST_SHUTDOWN_S,
            firm_signal="QUIT",
        )
        keeper, port = start_on_free_port(
            stack,
            lambda port: replace(kept, command=[*command, "-c", f"port={port}"]),
            lambda keeper, _: postmaster_status(cluster, keeper.pid) == "ready",
            START_S_MAX,
        )
        yield RunningPostgres(
            url=f"postgresql://{DATABASE_USER}@/{DATABASE}?host={quote(str(sockets), safe='/')}&port={port}",
            tcp_url=f"postgresql://{DATABASE_USER}:{read_password(directory)}@127.0.0.1:{port}/{DATABASE}",
            pid=keeper.pid,
            data_dir=directory.path,
            log_path=keeper.log_path,
            bin_dir=binaries.bin_dir,
        )


def _quoted(directory: Path) -> str:
    """One element of PostgreSQL's comma-separated list of folders."""
    escaped = str(directory).replace('"', '""')
    return f'"{escaped}"'
