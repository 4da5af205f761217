"""The thread that writes lines."""

import io
import threading

from runengine_server.adapters.telemetry import LineWriter

DEADLINE_S = 20.0


class Gate(io.BytesIO):
    """A stream whose reader has stopped until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.is_writing = threading.Event()
        self.opened = threading.Event()
        self.writes = 0

    def write(self, data: object) -> int:
        self.writes += 1
        self.is_writing.set()
        self.opened.wait(DEADLINE_S)
        return super().write(data)  # type: ignore[arg-type]


def test_lines_keep_their_order_and_all_arrive() -> None:
    """Closing writes everything that was given before, in order, in far fewer writes than lines."""
    stream = Gate()
    stream.opened.set()
    writer = LineWriter(stream)
    lines = [b"%d\n" % at for at in range(10_000)]
    for line in lines:
        writer.write(line)
    writer.close()
    assert stream.getvalue() == b"".join(lines)
    assert stream.writes < 1000


def test_lines_of_many_threads_are_never_mixed() -> None:
    """Lines given from several threads at once all arrive whole."""
    stream = io.BytesIO()
    writer = LineWriter(stream, linger_s=0)

    def write(thread: int) -> None:
        for at in range(1000):
            writer.write(b"%d:%d\n" % (thread, at))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert sorted(stream.getvalue().split()) == sorted(b"%d:%d" % (n, at) for n in range(4) for at in range(1000))


def test_a_stopped_reader_stops_nobody() -> None:
    """While the stream takes nothing lines beyond the bound are dropped and counted, without waiting."""
    stream = Gate()
    writer = LineWriter(stream, linger_s=0, waiting_bytes_max=100)
    writer.write(b"first\n")
    assert stream.is_writing.wait(DEADLINE_S)
    for _ in range(1000):
        writer.write(b"0123456789\n")
    kept = 1000 - writer.dropped
    assert 0 < kept <= 10
    stream.opened.set()
    writer.close()
    assert stream.getvalue() == b"first\n" + b"0123456789\n" * kept


def test_a_reader_that_is_gone_is_no_error() -> None:
    """Writing to a stream that was closed loses lines and nothing else."""
    stream = io.BytesIO()
    stream.close()
    writer = LineWriter(stream)
    writer.write(b"lost\n")
    writer.close()
