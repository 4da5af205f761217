"""How each peer has its turn: its own servers start, its program runs once, everything of it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import IO, Any, Final
from urllib.request import urlopen

from benchmarks.conditions import REPOSITORY
from benchmarks.databases import Databases
from benchmarks.peers.install import node, node_peers, python_of
from runengine_server.adapters.embedded.port import free_port

_TURN_S_MAX: Final = 120.0
_READY_S_MAX: Final = 30.0
_POLL_S: Final = 0.05
_LINES_SHOWN: Final = 12


class TurnError(RuntimeError):
    """A peer failed in its turn; the message has the end of what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a turn can use.

    Attributes:
        databases: PostgreSQL, and the Valkey of our own cache.
        database_url: a database of PostgreSQL for this peer alone.
        durable_redis_url: a Valkey that syncs its log at every write.
        folder: temporary, of this turn.
        resources: what the turn starts ends with them.
    """

    databases: Databases
    database_url: str
    durable_redis_url: str
    folder: Path
    resources: ExitStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and what it finds in its environment."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One peer.

    Attributes:
        title: what people call it.
        install: makes what it needs be there.
        program: starts its servers, and says what to run.
        is_slow: a large burst would take too long, so it does the smallest only.
    """

    title: str
    install: Callable[[], object]
    program: Callable[[Place], Program]
    is_slow: bool = False


def take_turn(peer: Peer, place: Place, works: Sequence[str], n: Sequence[int]) -> list[Mapping[str, Any]]:
    """What the peer's program said: one row for each work.

    Raises:
        TurnError: it failed, or took too long.
    """
    program = peer.program(place)
    options = ["--work", ",".join(works), "--n", ",".join(map(str, n))]
    log = place.folder / "program.log"
    with (
        log.open("w") as errors,
        _running([*program.command, *options], program.environment, subprocess.PIPE, errors) as process,
    ):
        try:
            said, _ = process.communicate(timeout=_TURN_S_MAX)
        except subprocess.TimeoutExpired:
            raise TurnError(f"{peer.title} took more than {_TURN_S_MAX:g} s") from None
    if process.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:])
        raise TurnError(f"{peer.title} ended with status {process.returncode}: {last}")
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def _ours(place: Place) -> Program:
    databases = place.databases
    servers = {
        "--database-url": place.database_url,
        "--redis-url": databases.redis_url,
        "--postgres-pid": str(databases.postgres_pid),
        "--valkey-pid": str(databases.valkey_pid),
    }
    options = [part for option in servers.items() for part in option]
    return Program(command=[sys.executable, "-m", "benchmarks.peers.ours", *options])


def _bullmq(place: Place) -> Program:
    return _node_program("bullmq", PEER_REDIS_URL=place.durable_redis_url)


def _graphile(place: Place) -> Program:
    return _node_program("graphile", PEER_DATABASE_URL=place.database_url)


def _restate(place: Place) -> Program:
    ingress, admin, mesh, service = (free_port() for _ in range(4))
    server = {
        "RESTATE_BASE_DIR": str(place.folder / "restate"),
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_ADMIN__DISABLE_WEB_UI": "true",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_BIND_PORT": str(mesh),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_LOG_FILTER": "warn",
    }
    binary = node_peers() / "node_modules" / ".bin" / "restate-server"
    _serve(place, [str(node()), str(binary), "--no-logo"], server)
    for port, path in ((admin, "/health"), (ingress, "/restate/health")):
        _wait_for(f"http://127.0.0.1:{port}{path}")
    return _node_program(
        "restate",
        PEER_INGRESS=f"http://127.0.0.1:{ingress}",
        PEER_ADMIN=f"http://127.0.0.1:{admin}",
        PEER_PORT=str(service),
        RESTATE_LOGGING="ERROR",
    )


def _dbos(place: Place) -> Program:
    return _python_program("dbos", PEER_DATABASE_URL=place.database_url)


def _temporal(place: Place) -> Program:
    address, http, metrics = (free_port() for _ in range(3))
    binary = python_of("temporal").with_name("temporal")
    ports = ["--port", str(address), "--http-port", str(http), "--metrics-port", str(metrics)]
    file = ["--db-filename", str(place.folder / "temporal.sqlite")]
    _serve(place, [str(binary), "server", "start-dev", "--headless", "--ip", "127.0.0.1", *ports, *file], {})
    return _python_program("temporal", PEER_ADDRESS=f"127.0.0.1:{address}")


def _floor(place: Place) -> Program:
    command = [sys.executable, "-m", "benchmarks.peers.floor_peer"]
    return Program(command=command, environment={"PEER_DATABASE_URL": place.database_url})


def _floor_grpc(place: Place) -> Program:
    program = _floor(place)
    return Program(command=[*program.command, "--grpc"], environment=program.environment)


def _node_program(name: str, **environment: str) -> Program:
    return Program(command=[str(node()), str(node_peers() / f"{name}.mjs")], environment=environment)


def _python_program(name: str, **environment: str) -> Program:
    command = [str(python_of(name)), "-m", f"benchmarks.peers.{name}_peer"]
    return Program(command=command, environment=environment)


def _serve(place: Place, command: Sequence[str], environment: Mapping[str, str]) -> None:
    log = place.resources.enter_context((place.folder / "server.log").open("w"))
    place.resources.enter_context(_running(command, environment, log, log))


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], output: IO[str] | int, errors: IO[str]
) -> "Iterator[subprocess.Popen[str]]":
    """The command runs, in a process group of its own that ends with the block."""
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdin=subprocess.DEVNULL, stdout=output, stderr=errors, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _wait_for(url: str) -> None:
    deadline = monotonic() + _READY_S_MAX
    while True:
        try:
            with urlopen(url, timeout=1) as answer:
                answer.read()
                return
        except OSError as error:
            if monotonic() > deadline:
                raise TurnError(f"{url} does not answer: {error}") from None
        sleep(_POLL_S)


@contextmanager
def place_of(databases: Databases, database_url: str, durable_redis_url: str) -> Iterator[Place]:
    """A place for one turn, empty at its beginning."""
    with TemporaryDirectory(prefix="runengine-peer-") as folder, ExitStack() as resources:
        yield Place(
            databases=databases,
            database_url=database_url,
            durable_redis_url=durable_redis_url,
            folder=Path(folder),
            resources=resources,
        )


OURS: Final = "runengine"

PEERS: Final[Mapping[str, Peer]] = {
    OURS: Peer(title="RunEngine", install=lambda: None, program=_ours),
    "bullmq": Peer(title="BullMQ", install=node_peers, program=_bullmq),
    "restate": Peer(title="Restate", install=node_peers, program=_restate),
    "graphile": Peer(title="graphile-worker", install=node_peers, program=_graphile),
    "dbos": Peer(title="DBOS", install=lambda: python_of("dbos"), program=_dbos, is_slow=True),
    "temporal": Peer(title="Temporal", install=lambda: python_of("temporal"), program=_temporal, is_slow=True),
    "floor": Peer(title="floor", install=lambda: None, program=_floor),
    "floor-grpc": Peer(title="floor with gRPC", install=lambda: None, program=_floor_grpc),
}
