"""Runs a shell script that learns of this process' end, however that comes about, by a pipe.

Whatever ends us (exit, exception, SIGTERM, `kill -9`, the OOM killer) the kernel closes our end of a pipe that the
shell reads. PR_SET_PDEATHSIG would be shorter, but fires when the *thread* that forked ends. The shell leads a session
of its own, so a terminal's Ctrl-C or a `kill` of our process group does not reach it or what it starts. Ending on
purpose closes the same pipe: there is one way to end, and every exit tests it.
"""

import os
import select
import subprocess
import time
import weakref
from collections.abc import Sequence

from runengine_server.adapters.embedded.account import Account, server_environment
from runengine_server.adapters.embedded.errors import EmbeddedError

_ANSWER_S_MAX = 20.0


class Lifeline:
    """One running shell script; its standard input ends when this process does."""

    def __init__(
        self, script: str, arguments: Sequence[str], account: Account, *, log_fd: int, inherited_fds: Sequence[int] = ()
    ) -> None:
        """The script runs as the account and has printed its first line.

        Args:
            script: For /bin/sh; it prints one line and reads standard input until that ends.
            arguments: Its `$1` and following.
            account: As whom it runs.
            log_fd: Where its standard error goes.
            inherited_fds: Further descriptors that it and its children hold.

        Raises:
            EmbeddedError: When it cannot be started or ends without a line.
        """
        self._owner_pid = os.getpid()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", script, "runengine-embedded", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_fd,
                bufsize=0,
                cwd="/",
                env=server_environment(),
                start_new_session=True,
                pass_fds=inherited_fds,
                user=account.uid,
                group=account.gid,
                extra_groups=account.groups,
                umask=0o077,
            )
        except OSError as error:
            raise EmbeddedError(f"cannot run /bin/sh as {account.name}: {error}") from error
        _live.add(self)
        try:
            self.answer = self._read_answer()
        except BaseException:
            self.end(_ANSWER_S_MAX)
            raise

    @property
    def fd(self) -> int:
        """Our end of the pipe: a process that inherits it keeps the script waiting for its own end, too."""
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    def exit_status(self, timeout_s: float = 0) -> int | None:
        """The script's exit status, or None if it still runs after `timeout_s`."""
        try:
            return self._process.wait(timeout_s) if timeout_s else self._process.poll()
        except subprocess.TimeoutExpired:
            return None

    def end(self, timeout_s: float) -> None:
        """The script has ended; nothing happens in a forked copy of the process that started it.

        Raises:
            EmbeddedError: When it has not ended after `timeout_s`.
        """
        if os.getpid() != self._owner_pid:
            return
        self.let_go()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise EmbeddedError(f"/bin/sh (pid {self._process.pid}) does not end") from None
        assert self._process.stdout is not None
        self._process.stdout.close()

    def let_go(self) -> None:
        """This process no longer holds the pipe."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _read_answer(self) -> str:
        assert self._process.stdout is not None
        said = b""
        deadline = time.monotonic() + _ANSWER_S_MAX
        while not said.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            ready = select.select([self._process.stdout], [], [], left)[0]
            received = os.read(self._process.stdout.fileno(), 4096) if ready else b""
            if not received:
                raise EmbeddedError("/bin/sh ended or hung before it had started anything")
            said += received
        return said[:-1].decode(errors="surrogateescape")


_live: "weakref.WeakSet[Lifeline]" = weakref.WeakSet()


def _let_go_inherited() -> None:
    """A process forked without exec (multiprocessing) must not hold our pipes, or the servers outlive us."""
    for lifeline in list(_live):
        lifeline.let_go()


os.register_at_fork(after_in_child=_let_go_inherited)
