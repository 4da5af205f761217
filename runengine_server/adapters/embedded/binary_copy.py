"""Copies server binaries to where an unprivileged account can execute them, once per version.

Needed only by root whose site-packages lie below a private folder (`/root/.venv`): the account the servers run as
cannot get there, and opening that folder to everybody is not ours to do. A copy is keyed by path, size and
modification time of its main binary, so an unchanged installation is copied once. Each running server holds a shared
lock on its copy; a new copy removes those that nobody holds. So there is one copy, plus those still in use.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from runengine_server.adapters.embedded.errors import EmbeddedError

# Headers and static libraries: a quarter of the wheel, and no server reads them.
_SKIPPED = shutil.ignore_patterns("include", "*.a", "__pycache__")

_LOCK_NAME = ".in-use"

# The system's place for what can be made again; the others are for a read-only root file system.
BASE_DIRECTORIES = (
    Path("/var/cache/runengine"),
    Path(tempfile.gettempdir()) / "runengine-cache",
    Path("/tmp/runengine-cache"),
)


def reachable_copy(kind: str, main_binary: Path, parts: Mapping[Path, str]) -> tuple[Path, int]:
    """A folder open to every user holds the files.

    Args:
        kind: Names the family of copies, e.g. `postgres`; old ones of the same kind are removed if unused.
        main_binary: The file whose path, size and time identify the version.
        parts: File or folder to copy → its place in the copy.

    Returns:
        The copy, and a descriptor to be inherited by the server: while any process holds it, the copy stays.

    Raises:
        EmbeddedError: When no safe place for it can be made.
    """
    base = _base_directory()
    known = main_binary.stat()
    identity = f"{main_binary}|{known.st_size}|{known.st_mtime_ns}"
    copy = base / f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    base_fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(base_fd, fcntl.LOCK_EX)  # One process copies or clears at a time.
        if not copy.is_dir():
            _copy_parts(parts, base / f"{copy.name}.partial", copy)
        lock_fd = os.open(copy / _LOCK_NAME, os.O_RDONLY)
        fcntl.flock(lock_fd, fcntl.LOCK_SH)
        for other in base.glob(f"{kind}-*"):
            if other != copy:
                _remove_unused(other)
    except OSError as error:
        raise EmbeddedError(f"cannot copy {kind} to {copy}: {error}") from error
    finally:
        os.close(base_fd)
    return copy, lock_fd


def _base_directory() -> Path:
    """A folder of root's own that others can pass but not change: a copy that others could swap would run as us."""
    for base in BASE_DIRECTORIES:
        try:
            base.mkdir(mode=0o755, exist_ok=True)
            found = base.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
                base.chmod(0o755)  # The umask may have closed it.
                return base
        except OSError:
            continue
    tried = ", ".join(str(base) for base in BASE_DIRECTORIES)
    raise EmbeddedError(f"no safe folder for copies of the server binaries; tried {tried}")


def _copy_parts(parts: Mapping[Path, str], partial: Path, copy: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for source, place in parts.items():
        target = partial / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_SKIPPED)
        else:
            shutil.copy2(source, target)
    (partial / _LOCK_NAME).touch()
    for path in (partial, *partial.rglob("*")):
        is_executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if is_executable else 0o644)
    partial.rename(copy)


def _remove_unused(copy: Path) -> None:
    try:
        fd = os.open(copy / _LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        shutil.rmtree(copy, ignore_errors=True)  # A copy that was never finished.
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(copy)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
