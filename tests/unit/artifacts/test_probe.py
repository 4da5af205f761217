"""Which artifacts are gone, against real files and a real server on loopback."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

import pytest

from runengine_server.adapters.artifacts import RootedArtifactProbe, parse_roots
from runengine_server.adapters.artifacts.probe import ProbeSettings

pytestmark = pytest.mark.anyio


class ManualClock:
    """Stands still until moved."""

    at = 0.0

    def now(self) -> None:
        raise AssertionError("a breaker measures, it does not date")

    def monotonic(self) -> float:
        return self.at


class Server:
    """Answers HEAD with the status that the path ends in; `hang` waits until the test is over."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.is_over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                server.asked.append((self.command, self.path))
                name = self.path.partition("?")[0].rpartition("/")[2]
                if name == "hang":
                    server.is_over.wait(30)
                    return
                self.send_response(int(name))
                self.send_header("Location", "/artifacts/404")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.http.server_port}/artifacts"


@contextmanager
def _running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.is_over.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with _running() as running:
        yield running


def _probe(roots: str, clock: ManualClock | None = None, **bounds: float) -> RootedArtifactProbe:
    return RootedArtifactProbe(parse_roots(roots), clock or ManualClock(), ProbeSettings(**bounds))  # type: ignore[arg-type]


async def test_files(tmp_path: Path) -> None:
    """A missing file below a root is gone; one that is there, or that nobody allowed us to look at, is not."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "kept").write_text("x")
    uris = {name: f"{root.as_uri()}/{name}" for name in ("kept", "lost", "kept/below")}
    probe = _probe(root.as_uri())
    assert await probe.gone([*uris.values(), (tmp_path / "outside").as_uri()]) == {uris["lost"], uris["kept/below"]}


async def test_a_root_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    """When the directory itself is missing, as when a volume is not mounted, nothing counts as gone."""
    root = tmp_path / "unmounted"
    assert await _probe(root.as_uri()).gone([f"{root.as_uri()}/a"]) == frozenset()


async def test_servers(server: Server) -> None:
    """404 and 410 are gone; every other answer leaves it open, and a redirect is not followed."""
    uris = {status: f"{server.root}/{status}" for status in (200, 204, 301, 403, 404, 405, 410, 500)}
    assert await _probe(server.root).gone(uris.values()) == {uris[404], uris[410]}
    assert sorted(server.asked) == sorted(("HEAD", f"/artifacts/{status}") for status in uris)


async def test_nothing_else_is_asked(server: Server) -> None:
    """A URI outside the roots, of whatever kind, costs no request."""
    outside = server.root.replace("/artifacts", "/other/404")
    assert await _probe(server.root).gone([outside, "s3://bucket/404", "http://[broken", ""]) == frozenset()
    assert server.asked == []


async def test_a_server_that_hangs_costs_little(server: Server) -> None:
    """Probes end in time, count as there, and after three in a row the root is left alone for a while."""
    clock = ManualClock()
    probe = _probe(server.root, clock, timeout_s=0.05)
    started = monotonic()
    assert await probe.gone([f"{server.root}/{n}/hang" for n in range(200)]) == frozenset()
    assert monotonic() - started < 2.0
    assert len(server.asked) < 50
    assert await probe.gone([f"{server.root}/404"]) == frozenset()
    clock.at += 10.0
    assert await probe.gone([f"{server.root}/404"]) == {f"{server.root}/404"}
    assert server.asked.count(("HEAD", "/artifacts/404")) == 1


async def test_a_server_that_is_not_there_tells_nothing() -> None:
    """A refused connection leaves it open."""
    with _running() as stopped:
        root = stopped.root
    assert await _probe(root).gone([f"{root}/404"]) == frozenset()
