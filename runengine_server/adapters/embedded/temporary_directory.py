"""Makes folders that go when the last process using them has gone, also when all of them are killed.

A shell on a lifeline makes the folder, so there is no moment in which it exists and nobody watches it, and removes it
when the lifeline ends. Servers inherit our end of that pipe: it ends when we *and* they have gone, so nothing writes
into the folder any more while it is removed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runengine_server.adapters.embedded.account import Account
from runengine_server.adapters.embedded.errors import EmbeddedError
from runengine_server.adapters.embedded.lifeline import Lifeline

# Removing a cluster of many gigabytes from a slow disk.
_REMOVE_S_MAX = 120.0

# $1 the folder to make it in. At system shutdown the signals are for those who use the folder.
_SCRIPT = r"""
trap '' HUP INT TERM PIPE
directory=$(mktemp -d "$1/runengine-XXXXXXXX") || exit 1
echo "$directory"
exec 1>&2
read -r word
rm -rf -- "$directory"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryDirectory:
    """A 0700 folder that belongs to the servers' account."""

    path: Path
    lifeline_fd: int
    """To be inherited by every server that uses the folder."""


@contextmanager
def temporary_directory(account: Account, base: Path) -> Iterator[TemporaryDirectory]:
    """A new folder in `base`, gone after the block.

    Raises:
        EmbeddedError: When the account cannot make one there.
    """
    silent_fd = os.open(os.devnull, os.O_WRONLY)
    try:
        lifeline = Lifeline(_SCRIPT, [str(base)], account, log_fd=silent_fd)
    except EmbeddedError as error:
        raise EmbeddedError(f"{account.name} cannot make a temporary directory in {base}") from error
    finally:
        os.close(silent_fd)
    try:
        yield TemporaryDirectory(path=Path(lifeline.answer), lifeline_fd=lifeline.fd)
    finally:
        lifeline.end(_REMOVE_S_MAX)


def writable_base(account: Account, *candidates: str) -> Path:
    """The first of the folders that the account can write to, or the first at all."""
    for base in candidates:
        if account.run(["/bin/sh", "-c", 'test -d "$1" && test -w "$1" && test -x "$1"', "sh", base]) is not None:
            return Path(base)
    return Path(candidates[0])
