"""Runs a private Valkey for as long as a block lasts: a cache, so nothing is ever written to disk.

It listens on a free port of 127.0.0.1, which every Redis client and tool can use, and on a Unix socket in a 0700
folder. Both ask for a random password that is new at each start and stands in a 0600 file only (a command line would
show it to every user). Beyond `maxmemory` it evicts; the engine treats a lost entry as a miss.
"""

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from runengine_server.adapters.embedded.account import choose_account
from runengine_server.adapters.embedded.binaries import ValkeyBinary, valkey_binary
from runengine_server.adapters.embedded.data_directory import DataDirectory, locked, opened_directory, socket_directory
from runengine_server.adapters.embedded.errors import EmbeddedError
from runengine_server.adapters.embedded.keeper import Kept
from runengine_server.adapters.embedded.port import start_on_free_port

START_S_MAX = 30.0

_SOCKET_NAME = "valkey.sock"

DEFAULT_SETTINGS: Mapping[str, str] = {
    "maxmemory": "256mb",
    "maxmemory-policy": "allkeys-lru",
    "save": '""',
    "appendonly": "no",
    "loglevel": "notice",
}

# What the lifecycle itself depends on.
_RESERVED = frozenset(
    {"bind", "daemonize", "dir", "logfile", "port", "protected-mode", "requirepass", "unixsocket", "unixsocketperm"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningValkey:
    """A server that accepts connections."""

    url: str = field(repr=False)
    """By 127.0.0.1, with the password."""
    socket_url: str = field(repr=False)
    """By Unix socket, with the password."""
    pid: int
    data_dir: Path
    log_path: Path


@contextmanager
def start_valkey(
    data_dir: Path | None = None, *, valkey_bin: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[RunningValkey]:
    """A Valkey server runs inside the block.

    Args:
        data_dir: For its log and socket; None means a temporary directory that is removed at the end.
        valkey_bin: A server file to use instead of looking for one.
        settings: Configuration directives that replace or add to `DEFAULT_SETTINGS`, as in valkey.conf.

    Raises:
        EmbeddedError: With what to change, when it cannot be started.
    """
    account = choose_account(data_dir)
    with (
        valkey_binary(valkey_bin, account) as binary,
        opened_directory(data_dir, account) as directory,
        run_valkey(directory, binary, settings or {}) as running,
    ):
        yield running


@contextmanager
def run_valkey(directory: DataDirectory, binary: ValkeyBinary, settings: Mapping[str, str]) -> Iterator[RunningValkey]:
    """The server runs in a directory that is already open (see `start_valkey`)."""
    if reserved := sorted(_RESERVED & {name.lower() for name in settings}):
        raise EmbeddedError(f"these Valkey settings are chosen by the embedded server: {', '.join(reserved)}")
    with ExitStack() as stack:
        lock_fd = stack.enter_context(locked(directory, "valkey"))
        folder = directory.make_private("valkey")
        sockets, socket_fds = stack.enter_context(socket_directory(directory, folder, _SOCKET_NAME))
        socket_path = sockets / _SOCKET_NAME
        socket_path.unlink(missing_ok=True)  # Of a killed predecessor.
        password = secrets.token_urlsafe(24)
        kept = Kept(
            name="valkey",
            command=[],
            account=directory.account,
            log_path=directory.start_log("valkey"),
            inherited_fds=(lock_fd, *directory.inherited_fds, *binary.inherited_fds, *socket_fds),
            gentle_signal="TERM",
            patience_s=5,
            firm_signal="KILL",
        )

        def kept_at(port: int) -> Kept:
            text = _configuration({**DEFAULT_SETTINGS, **settings}, port, password, folder, socket_path)
            return replace(kept, command=[str(binary.server), str(directory.write_secret("valkey.conf", text))])

        keeper, port = start_on_free_port(stack, kept_at, lambda _, port: _answers(port, password), START_S_MAX)
        yield RunningValkey(
            url=f"redis://:{password}@127.0.0.1:{port}/0",
            socket_url=f"unix://:{password}@{quote(str(socket_path), safe='/')}?db=0",
            pid=keeper.pid,
            data_dir=directory.path,
            log_path=keeper.log_path,
        )


def _configuration(settings: Mapping[str, str], port: int, password: str, folder: Path, socket_path: Path) -> str:
    own = {
        "bind": "127.0.0.1",
        "port": str(port),
        "protected-mode": "yes",
        "requirepass": password,
        "unixsocket": _quoted(socket_path),
        "unixsocketperm": "700",
        "dir": _quoted(folder),
        "daemonize": "no",
        "logfile": '""',
    }
    return "".join(f"{name} {value}\n" for name, value in {**settings, **own}.items())


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _answers(port: int, password: str) -> bool:
    """Whether the server at the port takes our password, which only ours does, and answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\n") < 2 and (received := connection.recv(256)):
                answer += received
    except OSError:
        return False
    return answer == b"+OK\r\n+PONG\r\n"
