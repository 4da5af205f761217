"""Starts a server on a TCP port that nobody else uses, asking again when another process was quicker."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from runengine_server.adapters.embedded.errors import EmbeddedError
from runengine_server.adapters.embedded.keeper import Keeper, Kept

# A port is found free before the server binds it. Two losses of that race in a row are already rare.
PORT_TRIES = 5

_POLL_S = 0.005

# How strerror(EADDRINUSE) reads in the C locale, on every libc.
_TAKEN = "address already in use"


def start_on_free_port(
    stack: ExitStack,
    kept_at: Callable[[int], Kept],
    is_ready: Callable[[Keeper, int], bool],
    start_s_max: float,
) -> tuple[Keeper, int]:
    """The server accepts connections; `stack` will stop it.

    Args:
        stack: Takes over the keeper the moment it exists, so that any exception stops it.
        kept_at: What to run for a given port.
        is_ready: Whether the keeper's server accepts connections at that port; called every few milliseconds.
        start_s_max: Seconds until giving up.

    Returns:
        The keeper and the port.

    Raises:
        EmbeddedError: When the server ends or is not ready in time; with the end of its log.
    """
    for _ in range(PORT_TRIES):
        port = free_port()
        keeper = Keeper(kept_at(port))
        stack.callback(keeper.stop)
        if _becomes_ready(keeper, partial(is_ready, keeper, port), start_s_max):
            return keeper, port
        if _TAKEN not in keeper.log_tail().lower():
            break
    raise EmbeddedError(
        f"{keeper.name} ended with status {keeper.exit_status()}; {keeper.log_path}:\n{keeper.log_tail()}"
    )


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _becomes_ready(keeper: Keeper, is_ready: Callable[[], bool], start_s_max: float) -> bool:
    """Whether the server got ready; False once it has ended."""
    deadline = time.monotonic() + start_s_max
    while time.monotonic() < deadline:
        if is_ready():
            return True
        if keeper.exit_status(_POLL_S) is not None:
            return False
    raise EmbeddedError(
        f"{keeper.name} is not ready after {start_s_max:.0f} s; {keeper.log_path}:\n{keeper.log_tail()}"
    )
