"""Puts the gRPC server together: services, guard, health, reflection, transport; starts and drains it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from runengine_client.pb.runengine.v1 import cache_pb2_grpc, run_engine_pb2_grpc, workflow_pb2_grpc
from runengine_server.ports.authenticator import Authenticator
from runengine_server.ports.request_meter import RequestMeter
from runengine_server.rpc.access import check_listed
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.bind import BindRefusedError, check_bind
from runengine_server.rpc.draining import Drain
from runengine_server.rpc.guard import Guard
from runengine_server.rpc.servicers.cache_admin import CacheAdminServicer
from runengine_server.rpc.servicers.run_engine import RunEngineServicer
from runengine_server.rpc.servicers.workflow_registry import WorkflowRegistryServicer
from runengine_server.rpc.settings import RpcSettings, TlsFiles
from runengine_server.rpc.watches import WatchRegistry, utc_now
from runengine_server.service.services import Services

SERVICE_NAMES = (
    "runengine.v1.RunEngine",
    "runengine.v1.WorkflowRegistryService",
    "runengine.v1.CacheAdminService",
)


class RpcServer:
    """The gRPC surface of one process; built inside the event loop that then serves it.

    Attributes:
        admission: lets calls in; other surfaces of the process ask it, too.
        watches: those that are open, of every surface.
        methods: full names of what is served.
        port: where; meaningless for a socket.
    """

    def __init__(
        self,
        *,
        services: Services,
        authenticator: Authenticator,
        settings: RpcSettings,
        meter: RequestMeter,
        now: Callable[[], datetime] = utc_now,
        interceptors: Iterable[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        """Register everything and bind the address; nothing is served before `start`.

        Args:
            services: the use cases.
            authenticator: knows the callers.
            settings: address, limits, TLS.
            meter: is told of every call that has ended.
            now: the wall clock that tokens expire by.
            interceptors: further ones (tracing), outside the guard.

        Raises:
            BindRefusedError: the address cannot be bound, or must not be with these settings.
            UnlistedMethodError: a registered method has no declared access.
        """
        check_bind(
            settings.address,
            has_auth=settings.has_auth,
            has_tls=settings.tls is not None,
            insecure_plaintext=settings.insecure_plaintext,
        )
        self._drain = Drain()
        self.admission = Admission(authenticator, self._drain)
        self.watches = WatchRegistry(settings, now)
        self._health = health_aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[*interceptors, Guard(self.admission, meter)], options=settings.channel_options()
        )
        self.methods = self._register(services, has_reflection=settings.has_reflection)
        check_listed(self.methods)
        self.port = _bind(self._server, settings)

    async def start(self) -> int:
        """Serve; health says NOT_SERVING until `set_serving`. Returns the bound port (meaningless for a socket)."""
        await self.set_serving(is_serving=False)
        await self._server.start()
        return self.port

    async def set_serving(self, *, is_serving: bool) -> None:
        """Make health say SERVING or NOT_SERVING, for the server and each service; ignored once draining."""
        status = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, status)

    async def drain(self, grace_s: float) -> None:
        """Stop within the grace period, in seconds.

        Health says NOT_SERVING, new calls get UNAVAILABLE DRAINING, watches end with it and their last sequence, and
        calls being answered may finish; what is left at the end is cut off.
        """
        deadline = asyncio.get_running_loop().time() + grace_s
        self._drain.begin()
        await self._health.enter_graceful_shutdown()
        self.watches.end_all()
        await self._drain.wait_idle(grace_s)
        await self._server.stop(max(0.0, deadline - asyncio.get_running_loop().time()))

    def _register(self, services: Services, *, has_reflection: bool) -> frozenset[str]:
        """Register every service and return the full names of their methods."""
        recorder = _MethodRecorder(self._server)
        server = cast("grpc.aio.Server", recorder)
        run_engine_pb2_grpc.add_RunEngineServicer_to_server(
            RunEngineServicer(services, self.watches),
            server,
        )
        workflow_pb2_grpc.add_WorkflowRegistryServiceServicer_to_server(WorkflowRegistryServicer(services), server)
        cache_pb2_grpc.add_CacheAdminServiceServicer_to_server(CacheAdminServicer(services), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if has_reflection:
            names = (*SERVICE_NAMES, "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return frozenset(recorder.methods)


class _MethodRecorder:
    """Stands in for a server while services register, and notes their methods."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.methods: set[str] = set()

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]
    ) -> None:
        self.methods.update(f"/{service_name}/{method}" for method in method_handlers)
        self._server.add_registered_method_handlers(service_name, method_handlers)


def _bind(server: grpc.aio.Server, settings: RpcSettings) -> int:
    try:
        if settings.tls is None:
            port = server.add_insecure_port(settings.address)
        else:
            port = server.add_secure_port(settings.address, _credentials(settings.tls))
    except RuntimeError as error:
        raise BindRefusedError(f"cannot bind {settings.address}: is another server using it?") from error
    if port == 0:
        raise BindRefusedError(f"cannot bind {settings.address}: is another server using it?")
    return port


def _credentials(files: TlsFiles) -> grpc.ServerCredentials:
    try:
        key, chain = files.private_key.read_bytes(), files.certificate_chain.read_bytes()
    except OSError as error:
        raise BindRefusedError(f"cannot read the TLS file {error.filename}: {error.strerror}") from error
    return grpc.ssl_server_credentials([(key, chain)])
