"""Keeps one server process exactly as long as this process lives: its parent is a shell on our lifeline.

When the lifeline ends, the shell stops the server gently, then firmly, then with SIGKILL. When the server ends by
itself, the shell ends with its exit status.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runengine_server.adapters.embedded.account import Account
from runengine_server.adapters.embedded.lifeline import Lifeline

# Time for the firm signal to work before SIGKILL; PostgreSQL itself kills its children after 5 s.
FIRM_S = 6

# $1 gentle signal · $2 seconds until $3 firm signal · $4 seconds until SIGKILL · the rest is the command.
# The subshell waits for the lifeline and signals, the shell waits for the server and then ends the subshell with its
# `sleep` (they alone are left in the process group). A signal to the shell itself, as at system shutdown, is one to
# the server. The server's output is the log: it must not hold the answer pipe, nor read the lifeline.
_SCRIPT = r"""
exec 3<&0 4>&1 </dev/null 1>&2
gentle=$1 patience=$2 firm=$3 last=$4
shift 4
"$@" 3<&- 4>&- &
server=$!
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
trap '' PIPE
echo "$server" >&4
exec 4>&-
while :; do
    wait "$server"
    status=$?
    kill -s 0 "$server" 2>/dev/null || break
done
trap '' TERM
kill -s TERM 0
exit "$status"
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


class Keeper:
    """One running shell with its server."""

    def __init__(self, kept: Kept) -> None:
        """The server has been forked; whether it gets anywhere is for the caller to see.

        Raises:
            EmbeddedError: When the shell cannot be started as the account.
        """
        self.name = kept.name
        self.log_path = kept.log_path
        self._stop_s_max = kept.patience_s + FIRM_S + 15.0
        ending = [kept.gentle_signal, str(kept.patience_s), kept.firm_signal, str(FIRM_S)]
        log_fd = os.open(kept.log_path, os.O_WRONLY | os.O_APPEND)
        try:
            self._lifeline = Lifeline(
                _SCRIPT, [*ending, *kept.command], kept.account, log_fd=log_fd, inherited_fds=kept.inherited_fds
            )
        finally:
            os.close(log_fd)
        self.pid = int(self._lifeline.answer)

    def exit_status(self, timeout_s: float = 0) -> int | None:
        """The server's exit status as a shell gives it (128 + n for signal n), or None if it runs after `timeout_s`."""
        return self._lifeline.exit_status(timeout_s)

    def stop(self) -> None:
        """Server and shell have gone.

        Raises:
            EmbeddedError: When they do not go although SIGKILL was sent.
        """
        self._lifeline.end(self._stop_s_max)

    def log_tail(self) -> str:
        """The end of the server's log, for an error message."""
        with contextlib.suppress(OSError):
            return self.log_path.read_text(errors="replace")[-1500:].strip()
        return ""
