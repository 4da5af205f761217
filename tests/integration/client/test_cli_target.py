"""An address that leads to no server is told in one sentence that says what to do, not in gRPC's words."""

import functools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
from typer.testing import CliRunner, Result

from runengine_client import connection
from runengine_client.cli import session
from runengine_client.cli.app import app
from runengine_client.client import CALL_TIMEOUT_S_DEFAULT, RunEngineClient
from runengine_client.retry import Backoff

from .conftest import Serving

NOWHERE = "x" * 64 + ".example:50051"
"""A name that no resolver takes, so that none is asked."""


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a server that is not there a single time, and not for long."""
    hasty = functools.partial(RunEngineClient, timeout_s=5, backoff=Backoff(attempts_max=1))
    monkeypatch.setattr(session, "RunEngineClient", hasty)


@contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """An address where this is the answer to whatever is sent."""

    class Answer(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield "{}:{}".format(*server.server_address)
        server.shutdown()


def asked(target: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["--target", target, *options, "list"])


def expect_unavailable(target: str, sentence: str, *options: str) -> None:
    done = asked(target, *options)
    assert done.exit_code == 5
    assert done.stderr == f"error: {sentence} (UNAVAILABLE)\n"


@pytest.mark.parametrize(
    ("target", "example"),
    [
        ("http://engine.example:50051", "engine.example:50051"),
        ("https://127.0.0.1:3001/api", "127.0.0.1:50051"),
        ("engine", "engine:50051"),
        ("engine:", "engine:50051"),
        ("engine:grpc", "engine:50051"),
        ("engine:0", "engine:50051"),
        ("engine:99999", "engine:50051"),  # gRPC would go to port 34463
        ("50051", "127.0.0.1:50051"),
        (":50051", "127.0.0.1:50051"),
        ("::1", "127.0.0.1:50051"),
        ("an engine:50051", "127.0.0.1:50051"),
        ("", "127.0.0.1:50051"),
    ],
)
def test_what_can_never_be_an_address(target: str, example: str) -> None:
    """What is no address is a usage error, without asking anybody, and shows how one is written."""
    done = asked(target, "--output", "json")
    assert done.exit_code == 2
    sentence = f"{target!r} is no gRPC address; write host:port in --target or RUNENGINE_TARGET, such as {example}"
    assert json.loads(done.stderr)["error"] == {"code": "USAGE", "message": sentence, "status": 400}


@pytest.mark.parametrize("write", [str, "dns:///{}".format, "ipv4:{}".format])
def test_every_way_to_write_an_address(serving: Serving, write: Callable[[str], str]) -> None:
    """What gRPC knows beside host:port stays possible."""
    assert asked(write(serving.target)).exit_code == 0


def test_unknown_host() -> None:
    """A host that cannot be found is told by its name."""
    expect_unavailable(
        NOWHERE, f"the host of {NOWHERE} cannot be found; check the name in --target or RUNENGINE_TARGET"
    )


def test_silent_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup that nobody answers ends before the call does, as any server that cannot be reached."""
    assert connection.NAME_LOOKUP_MS_MAX < 1000 * CALL_TIMEOUT_S_DEFAULT
    monkeypatch.setattr(connection, "NAME_LOOKUP_MS_MAX", 200)
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = f"dns://127.0.0.1:{silent.getsockname()[1]}/engine.example:50051"
        advice = "check the network, or name an IP address in --target or RUNENGINE_TARGET"
        expect_unavailable(target, f"no name server answers for the host of {target}; {advice}")


def test_closed_port() -> None:
    """Where nothing listens, the server has to be started."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
    sentence = (
        f"nothing answers at {target}; start the server, or name its gRPC address in --target or RUNENGINE_TARGET"
    )
    expect_unavailable(target, sentence)
    told = json.loads(asked(target, "--output", "json").stderr)["error"]
    assert (told["code"], told["message"], told["status"]) == ("UNAVAILABLE", sentence, 503)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b""])
def test_port_of_another_protocol(answer: bytes) -> None:
    """What answers, but not in gRPC, such as the HTTP port, is told from what does not answer."""
    with listening(answer) as target:
        expect_unavailable(
            target,
            f"what listens at {target} speaks no gRPC; name the server's gRPC port, 50051 if nobody changed it, "
            "in --target or RUNENGINE_TARGET, or add --tls if it wants TLS",
        )


def test_no_tls(serving: Serving) -> None:
    """A server without TLS is told from one that is not there."""
    sentence = "leave --tls out if the server has none, or name whom to trust with --tls-ca"
    expect_unavailable(serving.target, f"no TLS with {serving.target}: {sentence}", "--tls")
