"""Keeps one server process exactly as long as this process lives, by a shell that waits on our pipe.

Why a shell: whatever ends us (exit, exception, SIGTERM, `kill -9`, the OOM killer) the kernel closes our end of a
pipe. A small `/bin/sh` that is the server's parent waits for that, stops the server gently, then firmly, and removes
what is temporary. PR_SET_PDEATHSIG would be shorter, but fires when the *thread* that forked ends. The shell leads a
session of its own, so a terminal's Ctrl-C or a `kill` of our process group reaches neither it nor the server.
Stopping on purpose closes the same pipe: there is one way to stop, and every exit tests it.
"""

import os
import select
import subprocess
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runengine_server.adapters.embedded.account import Account, server_environment
from runengine_server.adapters.embedded.errors import EmbeddedError

# Time for the second, firm signal to work before SIGKILL; PostgreSQL itself kills its children after 5 s.
FIRM_S = 6

# $1 what is kept · $2 directory to clear of it ('' = keep) · $3 folder to remove whole ('' = none)
# $4 gentle signal · $5 patience in seconds · $6 firm signal · $7 time for that · the rest: the command.
# Line 1 of our output names the pid; `exited` follows when the server ends. Input `keep` releases everything.
_SCRIPT = r"""
exec 3<&0 4>&1 </dev/null 1>&2
name=$1 directory=$2 scratch=$3 gentle=$4 patience=$5 firm=$6 last=$7
shift 7
"$@" 3<&- 4>&- &
server=$!
echo "started $server" >&4
(
    exec 4>&-
    read -r word <&3
    kill -s "$gentle" "$server"
    sleep "$patience" 3<&-
    kill -s "$firm" "$server"
    sleep "$last" 3<&-
    kill -s KILL "$server"
) 2>/dev/null &
trap 'kill -s "$gentle" "$server" 2>/dev/null' HUP INT TERM
while :; do
    wait "$server"
    status=$?
    kill -0 "$server" 2>/dev/null || break
done
trap '' HUP INT TERM PIPE
kill -s TERM 0 2>/dev/null
{ echo "exited $status" >&4; } 2>/dev/null
exec 4>&-
word=
read -r word <&3
[ "$word" != keep ] || exit 0
[ -z "$scratch" ] || rm -rf -- "$scratch"
[ -n "$directory" ] || exit 0
for attempt in 1 2 3 4 5; do
    rm -rf -- "$directory/$name" "$directory/$name".* 2>/dev/null && break
    sleep 1
done
rmdir -- "$directory" 2>/dev/null
exit 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What to keep running, as whom, and how it ends."""

    name: str
    command: Sequence[str]
    account: Account
    log_path: Path
    inherited_fds: tuple[int, ...]
    gentle_signal: str
    patience_s: int
    firm_signal: str
    cleared_directory: Path | None = None
    removed_directory: Path | None = None


class Keeper:
    """One running shell with its server."""

    def __init__(self, kept: Kept) -> None:
        """The server has been forked; whether it gets anywhere is for the caller to see.

        Raises:
            EmbeddedError: When the shell cannot be started as the account.
        """
        self.name = kept.name
        self.log_path = kept.log_path
        self._owner_pid = os.getpid()
        self._stop_s_max = kept.patience_s + 2 * FIRM_S + 10
        self._said = b""
        self._process = _spawn(kept)
        _live.add(self)
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        try:
            self.pid = self._read_pid()
        except BaseException:
            self._close(b"")
            raise

    def exit_status(self) -> int | None:
        """The server's exit status as the shell saw it (128 + n for signal n), or None while it runs."""
        self._listen(0)
        for line in self._said.decode().splitlines(keepends=True):
            if line.startswith("exited ") and line.endswith("\n"):
                return int(line.split()[1])
        return None if self._process.poll() is None else self._process.returncode

    def wait_exit(self, timeout_s: float) -> int | None:
        """The server's exit status, or None if it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (status := self.exit_status()) is None and (left := deadline - time.monotonic()) > 0:
            self._listen(left)
        return status

    def release(self) -> None:
        """The shell of an *ended* server has gone and removed nothing."""
        self._close(b"keep\n")

    def stop(self) -> None:
        """Server and shell have gone, and what was temporary with them.

        Raises:
            EmbeddedError: When they do not go although SIGKILL was sent.
        """
        self._close(b"")

    def log_tail(self) -> str:
        """The end of the server's log, for an error message."""
        try:
            return self.log_path.read_text(errors="replace")[-1500:].strip()
        except OSError:
            return ""

    def forget(self) -> None:
        """A forked copy of this process no longer holds the pipe that keeps the server alive."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _close(self, word: bytes) -> None:
        if os.getpid() != self._owner_pid:
            return
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdin.closed:
            try:
                process.stdin.write(word)
                process.stdin.close()
            except BrokenPipeError:
                pass  # Somebody killed the shell; wait() below sees it.
        try:
            process.wait(self._stop_s_max)
        except subprocess.TimeoutExpired:
            raise EmbeddedError(f"{self.name} (below /bin/sh, pid {process.pid}) does not stop") from None
        process.stdout.close()

    def _read_pid(self) -> int:
        deadline = time.monotonic() + 10
        while b"\n" not in self._said:
            left = deadline - time.monotonic()
            if left <= 0 or self._process.poll() is not None:
                raise EmbeddedError(f"/bin/sh did not start {self.name}: {self.log_tail()}")
            self._listen(left)
        return int(self._said.split(b"\n")[0].split()[1])

    def _listen(self, timeout_s: float) -> None:
        stdout = self._process.stdout
        if stdout is None or stdout.closed:
            return
        if select.select([stdout], [], [], timeout_s)[0]:
            said = os.read(stdout.fileno(), 4096)
            self._said += said
            if not said:  # The shell has gone: without this pause a caller's loop would spin until it is reaped.
                time.sleep(0.001)


_live: "weakref.WeakSet[Keeper]" = weakref.WeakSet()


def _forget_inherited() -> None:
    """A process forked without exec (multiprocessing) must not hold our pipes, or the servers outlive us."""
    for keeper in list(_live):
        keeper.forget()


os.register_at_fork(after_in_child=_forget_inherited)


def _spawn(kept: Kept) -> "subprocess.Popen[bytes]":
    arguments = [
        kept.name,
        str(kept.cleared_directory or ""),
        str(kept.removed_directory or ""),
        kept.gentle_signal,
        str(kept.patience_s),
        kept.firm_signal,
        str(FIRM_S),
        *kept.command,
    ]
    account = kept.account
    log_fd = os.open(kept.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "runengine-keeper", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_fd,
            bufsize=0,
            cwd="/",
            env=server_environment(),
            start_new_session=True,
            pass_fds=kept.inherited_fds,
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
            umask=0o077,
        )
    except OSError as error:
        raise EmbeddedError(f"cannot start {kept.name} as {account.name}: {error}") from error
    finally:
        os.close(log_fd)
