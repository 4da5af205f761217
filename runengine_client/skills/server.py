"""Serves skills over gRPC: one process, one address, one place for artifacts."""

import asyncio
import importlib.util
import ipaddress
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio
import grpc

from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc
from runengine_client.skills.artifact_place import open_artifact_store
from runengine_client.skills.call_ledger import CallLedger
from runengine_client.skills.call_registry import CallRegistry
from runengine_client.skills.definition import Skill
from runengine_client.skills.replay_store import ReplayStore
from runengine_client.skills.servicer import SkillRunnerServicer
from runengine_client.tracing import exporting_spans

if TYPE_CHECKING:
    from grpc_health.v1.health import aio

# A frozen engine must be noticed, or its calls never enter their grace period; pings of engines must not be refused.
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", 4 << 20),
)
_CLOSE_S: Final = 1.0

_log = logging.getLogger("runengine.skills")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillServerLimits:
    """What a skill server holds at most, and how long it waits; seconds and bytes."""

    grace_s: float = 30.0
    """How long a call outlives its last engine; above the engine's lease (10 s): a restart pays nothing twice."""
    drain_s: float = 30.0
    """How long `stop` waits for calls that engines listen to."""
    threads_max: int = 64
    """Worker threads of all plain functions together."""
    calls_max: int = 1000
    """Calls taken on and not finished; more are refused with RESOURCE_EXHAUSTED."""
    replay_count_max: int = 10_000
    replay_bytes_max: int = 256 << 20
    replay_ttl_s: float = 3600.0


class SkillServer:
    """Runs skills for engines; `async with` it, or call `start` and `stop`.

    In-flight calls and successes kept for replay live in memory: engines may come and go freely, but a restart of this
    server runs its unfinished calls again.
    """

    def __init__(
        self,
        skills: Iterable[Skill],
        *,
        address: str,
        artifact_dir: str | os.PathLike[str] | None = None,
        artifact_store: str | None = None,
        readable_dirs: Sequence[str | os.PathLike[str]] = (),
        token: str | None = None,
        credentials: grpc.ServerCredentials | None = None,
        is_plaintext_allowed: bool = False,
        limits: SkillServerLimits | None = None,
        ledger_path: str | os.PathLike[str] | None = None,
        has_reflection: bool = False,
    ) -> None:
        """Prepare the server.

        Args:
            skills: what it runs; ids must differ.
            address: `host:port` (port 0 takes a free one) or `unix:/path`.
            artifact_dir: where artifacts go; made if it is not there.
            artifact_store: where they go instead: `file:///directory` or `s3://bucket/prefix` (needs obstore).
            readable_dirs: further folders that skills may read artifacts from.
            token: the bearer token engines must show; None admits everybody.
            credentials: TLS; None is plaintext.
            is_plaintext_allowed: whether an address that is not loopback may go without TLS and token.
            limits: bounds and waits; None takes the defaults.
            ledger_path: a file that every start and end is appended to as a JSON line.
            has_reflection: whether to offer gRPC reflection (needs grpcio-reflection).

        Raises:
            ValueError: two skills share an id, the address is none or public without TLS and a token, or artifacts
                can go nowhere.
        """
        self._skills = _by_id(skills)
        if not _is_address(address):
            raise ValueError(f"{address!r} is no address: write host:port, such as 127.0.0.1:7001, or unix:/path")
        if not (is_plaintext_allowed or (credentials and token) or _is_local(address)):
            raise ValueError(f"{address} is not loopback: give TLS credentials and a token, or allow plaintext")
        self._requested_address = address
        self._credentials = credentials
        self._token = token
        self._limits = limits or SkillServerLimits()
        self._has_reflection = has_reflection
        self.worker_id = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.artifact_store = open_artifact_store(
            artifact_dir=artifact_dir, artifact_store=artifact_store, readable_dirs=readable_dirs
        )
        self.ledger = CallLedger(self.worker_id, ledger_path)
        self.address = address
        self._calls: asyncio.Task[None] | None = None
        self._stopping: anyio.Event | None = None
        self._server: grpc.aio.Server | None = None
        self._health: aio.HealthServicer | None = None
        self._registry: CallRegistry | None = None
        self._servicer: SkillRunnerServicer | None = None

    async def start(self) -> None:
        """The server answers; `address` has the port it got.

        Raises:
            OSError: the address cannot be bound.
        """
        registry = await self._start_calls()
        server = grpc.aio.server(options=_OPTIONS)
        servicer = self._servicer = SkillRunnerServicer(
            self._skills,
            registry,
            worker_id=self.worker_id,
            grace_s=self._limits.grace_s,
            token=self._token,
        )
        skill_runner_pb2_grpc.add_SkillRunnerServiceServicer_to_server(servicer, server)
        self._health = _add_health(server)
        if self._has_reflection:
            _add_reflection(server)
        try:
            self.address = self._bind(server)
            await server.start()
        except BaseException:
            await self._stop_calls()
            raise
        self._server = server

    async def stop(self) -> None:
        """The server is gone; calls that engines listen to had `drain_s` to finish, the others were cancelled.

        A plain function that ignores its cancellation is waited for: its thread cannot be stopped.
        """
        if self._server is None or self._registry is None or self._servicer is None:
            return
        with anyio.CancelScope(shield=True):
            if self._health is not None:
                await self._health.enter_graceful_shutdown()
            await self._registry.drain(self._limits.drain_s)
            self._servicer.end_streams()
            await self._server.stop(_CLOSE_S)
            await self._stop_calls()
        self._server = None
        self.ledger.close()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def _start_calls(self) -> CallRegistry:
        ready = anyio.Event()
        self._stopping = anyio.Event()
        # Not a task group of the caller's: `start` and `stop` may be called by different tasks, and a task group must
        # be left by the task that entered it. `_stop_calls` awaits this task.
        self._calls = asyncio.create_task(self._host_calls(ready, self._stopping))
        await ready.wait()
        assert self._registry is not None
        return self._registry

    async def _host_calls(self, ready: anyio.Event, stopping: anyio.Event) -> None:
        limits = self._limits
        async with asyncio.TaskGroup() as tasks:
            self._registry = CallRegistry(
                artifact_store=self.artifact_store,
                ledger=self.ledger,
                replays=ReplayStore(
                    count_max=limits.replay_count_max, bytes_max=limits.replay_bytes_max, ttl_s=limits.replay_ttl_s
                ),
                tasks=tasks,
                threads_max=limits.threads_max,
                calls_max=limits.calls_max,
            )
            ready.set()
            await stopping.wait()  # whatever runs then is waited for: `stop` has cancelled it

    async def _stop_calls(self) -> None:
        if self._calls is not None and self._stopping is not None:
            self._stopping.set()
            await self._calls
            self._calls = None

    def _bind(self, server: grpc.aio.Server) -> str:
        address = self._requested_address
        try:
            if self._credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, self._credentials)
        except RuntimeError:
            raise OSError(f"{address} cannot be bound") from None
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


def serve_skills(
    skills: Iterable[Skill],
    *,
    address: str,
    artifact_dir: str | os.PathLike[str] | None = None,
    artifact_store: str | None = None,
    token: str | None = None,
    is_plaintext_allowed: bool = False,
    limits: SkillServerLimits | None = None,
    ledger_path: str | os.PathLike[str] | None = None,
    on_ready: Callable[[SkillServer], None] = lambda _: None,
) -> None:
    """The skills have been served until SIGTERM or SIGINT, and then drained; blocks.

    Says through `logging` when they are ready, and on standard error where a program has set up no logging.

    Args:
        skills: what to run.
        address: `host:port` (port 0 takes a free one) or `unix:/path`.
        artifact_dir: where artifacts go.
        artifact_store: where they go instead: `file:///directory` or `s3://bucket/prefix` (needs obstore).
        token: the bearer token engines must show; None admits everybody.
        is_plaintext_allowed: whether an address that is not loopback may go without TLS and token.
        limits: bounds and waits; None takes the defaults.
        ledger_path: a file that every start and end is appended to as a JSON line.
        on_ready: called once the server answers; its `address` has the real port.
    """
    server = SkillServer(
        skills,
        address=address,
        artifact_dir=artifact_dir,
        artifact_store=artifact_store,
        token=token,
        is_plaintext_allowed=is_plaintext_allowed,
        limits=limits,
        ledger_path=ledger_path,
    )
    # A quarter less time for a call that does nothing.
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    with exporting_spans("runengine-skills"):
        anyio.run(_serve, server, on_ready, backend_options={"use_uvloop": has_uvloop})


async def _serve(server: SkillServer, on_ready: Callable[[SkillServer], None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with server:
            _say(f"Skill server ready: address={server.address}, workerId={server.worker_id}")
            on_ready(server)
            await anext(aiter(signals))
            _log.info("Skill server stopping: workerId=%s", server.worker_id)


def _say(text: str) -> None:
    """A person sees it, too, whose plain script has set up no logging: that shows warnings alone."""
    _log.info(text)
    if not _log.hasHandlers():
        sys.stderr.write(f"{text}\n")


def _by_id(skills: Iterable[Skill]) -> dict[str, Skill]:
    by_id: dict[str, Skill] = {}
    for skill in skills:
        if skill.skill_id in by_id:
            raise ValueError(f"two skills have the id {skill.skill_id!r}")
        by_id[skill.skill_id] = skill
    return by_id


def _is_address(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return address.startswith("unix:") or (host != "" and port.isdecimal())


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _add_health(server: grpc.aio.Server) -> "aio.HealthServicer | None":
    """Offer grpc.health.v1 where grpcio-health-checking is installed."""
    try:
        from grpc_health.v1 import health_pb2_grpc
        from grpc_health.v1.health import aio
    except ImportError:
        return None
    servicer = aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer


def _add_reflection(server: grpc.aio.Server) -> None:
    from grpc_reflection.v1alpha import reflection

    name = skill_runner_pb2.DESCRIPTOR.services_by_name["SkillRunnerService"].full_name
    reflection.enable_server_reflection((name, reflection.SERVICE_NAME), server)
