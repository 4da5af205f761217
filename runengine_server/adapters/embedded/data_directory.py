"""Opens the folder an embedded server lives in, and makes sure that only one server uses it.

Everything of a server carries its name (`postgres/`, `postgres.log`, `postgres.password`, `postgres.lock`; the same for
`valkey`), so the two share a folder. The folder's parents are never changed.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runengine_server.adapters.embedded.account import USER_VARIABLE, Account
from runengine_server.adapters.embedded.errors import EmbeddedError
from runengine_server.adapters.embedded.temporary_directory import temporary_directory, writable_base

# sun_path holds 108 bytes on Linux and 104 on macOS, with the final NUL.
SOCKET_PATH_BYTES_MAX = 103

# A killed owner's server is still stopping: at most the keeper's patience and firm time, and some.
_PREDECESSOR_S_MAX = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDirectory:
    """A folder that exists and that the servers' account can enter."""

    path: Path
    account: Account
    lifeline_fd: int | None = None
    """Of a temporary directory: for its servers to inherit."""

    @property
    def is_temporary(self) -> bool:
        """Whether the directory goes when the servers have gone."""
        return self.lifeline_fd is not None

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """What every server in here must inherit."""
        return () if self.lifeline_fd is None else (self.lifeline_fd,)

    def make_private(self, name: str) -> Path:
        """An empty-or-existing folder `name` below, which only the servers' account (and root) can enter."""
        path = self.path / name
        if not path.is_dir():
            path.mkdir(mode=0o700)
            self.account.own(path)
        return path

    def start_log(self, server: str) -> Path:
        """The emptied log file of `server`, readable by its owner only: a log covers the latest start."""
        path = self.path / f"{server}.log"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
        return path

    def write_secret(self, name: str, text: str) -> Path:
        """`name` holds `text` and is readable by the servers' account (and root) only."""
        path = self.path / name
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            if not self.is_temporary:
                os.fsync(file.fileno())
        self.account.own(path)
        return path


@contextmanager
def opened_directory(path: Path | None, account: Account) -> Iterator[DataDirectory]:
    """The data directory; a temporary one (`path` None) is gone afterwards, any other is kept.

    Raises:
        EmbeddedError: When it cannot be made, or the servers' account cannot reach it.
    """
    if path is not None:
        yield _kept_directory(path, account)
        return
    base = writable_base(account, tempfile.gettempdir(), "/tmp", "/var/tmp")
    with temporary_directory(account, base) as made:
        yield DataDirectory(path=made.path.resolve(), account=account, lifeline_fd=made.lifeline_fd)


@contextmanager
def locked(directory: DataDirectory, server: str) -> Iterator[int]:
    """This process alone uses the directory for `server`.

    The lock is an flock whose descriptor the server inherits, so it lasts exactly as long as any process of that
    server, also when we are killed. A dead owner's server is waited for: it is stopping.

    Yields:
        The descriptor to pass on.

    Raises:
        EmbeddedError: When a living process holds it; the message names its pid.
    """
    fd = os.open(directory.path / f"{server}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + _PREDECESSOR_S_MAX
        while not _take(fd):
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            if not holder.isdigit() or is_alive(int(holder)) or time.monotonic() > deadline:
                raise EmbeddedError(f"{directory.path} is already in use by pid {holder or 'unknown'} ({server})")
            time.sleep(0.02)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def socket_directory(
    directory: DataDirectory, preferred: Path, socket_name: str
) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """A private folder whose Unix sockets have a path that clients accept: `preferred`, else a short temporary one.

    Yields:
        The folder, and what the server must inherit for its sake.
    """
    # A comma would be read by PostgreSQL's clients as the end of one host of several.
    if len(os.fsencode(preferred / socket_name)) <= SOCKET_PATH_BYTES_MAX and "," not in str(preferred):
        yield preferred, ()
        return
    # Not below TMPDIR, which may be what is too long.
    with temporary_directory(directory.account, Path("/tmp")) as short:
        yield short.path, (short.lifeline_fd,)


def is_alive(pid: int) -> bool:
    """Whether a process has this id, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _kept_directory(path: Path, account: Account) -> DataDirectory:
    path = path.absolute()
    try:
        if not path.is_dir():
            path.mkdir(parents=True)
            # The servers' account may pass through to its own folders, and other users may not.
            path.chmod(0o700 if account.uid is None else 0o710)
            if account.gid is not None:
                os.chown(path, 0, account.gid)
        path = path.resolve()
    except OSError as error:
        raise EmbeddedError(f"cannot use {path} as data directory: {error}") from error
    if not account.can_enter(path):
        raise EmbeddedError(
            f"{account.name}, as whom a root process runs PostgreSQL, cannot enter {path}: choose a data directory "
            f"outside of private folders, let others pass (chmod o+x on it and its parents), or name another account "
            f"in {USER_VARIABLE}"
        )
    return DataDirectory(path=path, account=account)


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
