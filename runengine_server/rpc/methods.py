"""The methods of every service as functions from request to response, for surfaces that are not gRPC."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from runengine_client.pb.runengine.v1 import cache_pb2, run_engine_pb2, workflow_pb2
from runengine_server.rpc.off_loop import read_off_loop
from runengine_server.rpc.servicers.cache_admin import CacheAdminServicer
from runengine_server.rpc.servicers.run_engine import RunEngineServicer
from runengine_server.rpc.servicers.workflow_registry import WARNING_KEY, WorkflowRegistryServicer
from runengine_server.rpc.text_check import refuse_nul
from runengine_server.rpc.watches import WatchRegistry
from runengine_server.service.services import Services


@dataclass(slots=True)
class Answer:
    """A response, and what gRPC sends beside it as metadata: warnings a person should see."""

    message: Message
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A unary method: `name` is the full one, `/package.Service/Method`."""

    name: str
    descriptor: MethodDescriptor
    request_class: type[Message]
    response_class: type[Message]
    behaviour: Callable[[Any, Any], Awaitable[Message]]

    async def answer(self, request: Message) -> Answer:
        """The response to an admitted caller's request.

        Raises:
            RunEngineError: what a caller can understand.
        """
        await read_off_loop(refuse_nul, request)
        sidecar = _Sidecar()
        response = await self.behaviour(request, sidecar)
        return Answer(response, sidecar.warnings)


def unary_methods(services: Services, watches: WatchRegistry) -> Mapping[str, Method]:
    """Every unary method by its full name."""
    servicers: Mapping[ServiceDescriptor, object] = {
        run_engine_pb2.DESCRIPTOR.services_by_name["RunEngine"]: RunEngineServicer(services, watches),
        workflow_pb2.DESCRIPTOR.services_by_name["WorkflowRegistryService"]: WorkflowRegistryServicer(services),
        cache_pb2.DESCRIPTOR.services_by_name["CacheAdminService"]: CacheAdminServicer(services),
    }
    methods = [
        Method(
            name=f"/{service.full_name}/{method.name}",
            descriptor=method,
            request_class=GetMessageClass(method.input_type),
            response_class=GetMessageClass(method.output_type),
            behaviour=getattr(servicer, method.name),
        )
        for service, servicer in servicers.items()
        for method in service.methods
        if not method.server_streaming
    ]
    return {method.name: method for method in methods}


@dataclass(slots=True)
class _Sidecar:
    """Stands in for a call's gRPC context, of which unary methods use the trailing metadata alone."""

    warnings: list[str] = field(default_factory=list)

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Keep the warnings."""
        self.warnings = [
            value.decode(errors="ignore") if isinstance(value, bytes) else value
            for key, value in metadata
            if key == WARNING_KEY
        ]
