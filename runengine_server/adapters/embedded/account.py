"""Chooses the operating-system account the embedded servers run as, and runs things as it.

PostgreSQL refuses to run as root. A root process (containers, CI) therefore starts both servers as the account
named by `RUNENGINE_EMBEDDED_USER`, else as the owner of the existing data, else as `nobody`. Anybody else starts
them as himself. The switch happens in the child, between fork and exec (`subprocess`' `user=`), so it needs neither
`su` nor a Python callback that is unsafe beside threads.
"""

import contextlib
import errno
import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runengine_server.adapters.embedded.errors import EmbeddedError

USER_VARIABLE = "RUNENGINE_EMBEDDED_USER"

# Nearly every Unix and container image has the first, and the rest the second.
_UNPRIVILEGED = ("nobody", "daemon")

# A binary that does not answer `--version` within this is not usable.
_COMMAND_S_MAX = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An operating-system account; ids are None where it is the one this process already has."""

    name: str
    uid: int | None = None
    gid: int | None = None

    @property
    def groups(self) -> list[int] | None:
        """Supplementary groups for `subprocess`: none at all after a switch, else unchanged."""
        return None if self.uid is None else []

    def has_name(self) -> bool:
        """Whether the user database knows the account; initdb refuses one it does not know, the server does not."""
        try:
            pwd.getpwuid(os.geteuid() if self.uid is None else self.uid)
        except KeyError:
            return False
        return True

    def own(self, path: Path) -> None:
        """The account owns `path`, which this process made."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def can_enter(self, directory: Path) -> bool:
        """Whether the account may traverse every folder down to `directory` (asked of the kernel, so ACLs count)."""
        return self.uid is None or self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)]) is not None

    def run(self, command: Sequence[str]) -> str | None:
        """Run a short command as the account.

        Returns:
            What it printed, or None when it cannot be executed or fails.

        Raises:
            EmbeddedError: When this process may not become the account.
        """
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=server_environment(),
                user=self.uid,
                group=self.gid,
                extra_groups=self.groups,
                timeout=_COMMAND_S_MAX,
                check=True,
            )
        except (FileNotFoundError, NotADirectoryError, subprocess.SubprocessError):
            return None
        except OSError as error:
            # EACCES is about the file; these two are about the switch (no privilege, or an unmapped id in a container).
            if self.uid is not None and error.errno in (errno.EPERM, errno.EINVAL):
                raise EmbeddedError(f"cannot run as {self.name} (uid {self.uid}): {error}") from error
            return None
        return done.stdout.decode(errors="replace")


def choose_account(data_dir: Path | None) -> Account:
    """The account to run the servers of `data_dir` as (see the module's text for the order).

    Raises:
        EmbeddedError: When `RUNENGINE_EMBEDDED_USER` names an unknown user or root, or there is nobody to choose.
    """
    if os.geteuid() != 0:
        return Account(name=str(os.geteuid()))
    configured = os.environ.get(USER_VARIABLE)
    if configured:
        try:
            entry = pwd.getpwnam(configured)
        except KeyError:
            raise EmbeddedError(f"{USER_VARIABLE} names {configured!r}, which is no user of this machine") from None
        if entry.pw_uid == 0:
            raise EmbeddedError(f"{USER_VARIABLE} must not be root: PostgreSQL refuses to run as root")
        return Account(name=configured, uid=entry.pw_uid, gid=entry.pw_gid)
    for existing in [data_dir / "postgres", data_dir / "valkey"] if data_dir else []:
        if existing.is_dir() and (owner := existing.stat()).st_uid != 0:
            return Account(name=f"uid {owner.st_uid}", uid=owner.st_uid, gid=owner.st_gid)
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedError(f"root must run PostgreSQL as another user: name one in {USER_VARIABLE}")


def server_environment() -> dict[str, str]:
    """The whole environment of a server: no PG* variable of ours reaches it, and its messages are in English."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin:" + os.environ.get("PATH", ""), "LC_ALL": "C"}
