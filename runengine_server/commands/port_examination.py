"""Whether the addresses can be listened on, or who listens there already."""

import errno
import json
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
from anyio import to_thread
from grpc_health.v1 import health_pb2

from runengine_server.commands.addresses import Listening
from runengine_server.commands.findings import Finding, failed, ok, warning
from runengine_server.commands.reachability import UnreachableError, require_reachable

ANSWER_S_MAX: Final = 2.0
_LOOPBACK_OF: Final[Mapping[str, str]] = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


async def examine_address(listening: Listening, *, has_tls: bool) -> Finding:
    """Whether the address is free, an engine's already, or somebody else's."""
    check = f"Address: {listening.variable}={listening.address}"
    if listening.path:
        return await _examine_socket(check, listening)
    if listening.port == 0:
        return ok(check, "any free port")
    problem = _bind(listening)
    if problem is None:
        return ok(check, "free")
    if problem.errno != errno.EADDRINUSE:
        advice = "bind an address of this machine, with a port above 1023 where the account is not privileged"
        return failed(check, f"cannot be listened on: {problem.strerror}", advice)
    if has_tls and listening.name != "ops_address":
        advice = "stop whatever it is before `serve`, unless it is this engine"
        return warning(check, "in use; with TLS this command does not ask by whom", advice)
    if await to_thread.run_sync(_WHO[listening.name], _reachable(listening)):
        return ok(check, "an engine serves it")
    return failed(check, "in use, and not by an engine", f"stop that process, or set {listening.variable} to another")


async def _examine_socket(check: str, listening: Listening) -> Finding:
    folder = Path(listening.path).parent
    if not folder.is_dir():
        return failed(check, f"there is no folder {folder}", f"make it, or set {listening.variable} to another path")
    try:
        await require_reachable(listening.address)
    except UnreachableError:
        return ok(check, "free")
    return ok(check, "served")


def _bind(listening: Listening) -> OSError | None:
    """Why nobody could listen there now; None when it is free."""
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((listening.host, listening.port))
            probe.listen(1)
    except OSError as error:
        return error
    return None


def _reachable(listening: Listening) -> str:
    """The address as one connects to it."""
    host = _LOOPBACK_OF.get(listening.host, listening.host)
    return f"[{host}]:{listening.port}" if ":" in host else f"{host}:{listening.port}"


def _is_engine_rpc(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            ask = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            ask(health_pb2.HealthCheckRequest(), timeout=ANSWER_S_MAX)
        except grpc.RpcError:
            return False
    return True


def _is_engine_http(address: str) -> bool:
    status, body = _get(f"http://{address}/api/v1/workflows")
    try:
        return status == 200 or "code" in json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        return False


def _is_engine_ops(address: str) -> bool:
    return _get(f"http://{address}/health/live")[0] == 200


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urlopen(url, timeout=ANSWER_S_MAX) as answer:
            return answer.status, answer.read(64 * 1024)
    except HTTPError as error:
        with error:
            return error.code, error.read(64 * 1024)
    except (OSError, HTTPException):
        return 0, b""


_WHO: Final[Mapping[str, Callable[[str], bool]]] = {
    "grpc_address": _is_engine_rpc,
    "http_address": _is_engine_http,
    "ops_address": _is_engine_ops,
}
