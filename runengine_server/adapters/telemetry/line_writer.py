"""Writes log lines in a thread of its own, many at a time: a reader that is slow or stopped never stops the engine."""

import contextlib
import threading
from typing import BinaryIO

# How long lines gather before they are written: a person does not notice, and one write then carries hundreds.
LINGER_S = 0.01

# Beyond it lines are dropped and counted: whoever reads our output has stopped.
WAITING_BYTES_MAX = 8 * 1024 * 1024

_CLOSE_S_MAX = 2.0


class LineWriter:
    """A bounded buffer of lines in front of a stream; safe to use from any thread."""

    def __init__(
        self, stream: BinaryIO, *, linger_s: float = LINGER_S, waiting_bytes_max: int = WAITING_BYTES_MAX
    ) -> None:
        """Write to `stream`, which stays open, until `close`."""
        self._stream = stream
        self._linger_s = linger_s
        self._waiting_bytes_max = waiting_bytes_max
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._arrived = threading.Event()
        self._closing = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Have the line, newline included, written soon; never waits, never raises."""
        with self._lock:
            if self._bytes > self._waiting_bytes_max:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
        if not self._arrived.is_set():
            self._arrived.set()

    def close(self) -> None:
        """Write what waits, for at most 2 s; lines that come later are lost."""
        self._closing.set()
        self._arrived.set()
        self._thread.join(_CLOSE_S_MAX)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._arrived.wait()
            self._closing.wait(self._linger_s)
            self._arrived.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        with self._lock:
            lines, self._lines, self._bytes = self._lines, [], 0
        if not lines:
            return
        # A reader that is gone (EPIPE) or a stream that was closed: there is nobody left to tell.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(b"".join(lines))
            self._stream.flush()
