"""Connect and gRPC-Web on the HTTP port: the same methods as gRPC, for typed clients in browsers.

The protocols themselves are connectrpc's; messages reach it as bytes, so that large ones are read and written beside
the event loop, and those of a watch once for all who watch. Source: docs/adr/0014-connect.md
"""

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import anyio
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runengine_client.pb.runengine.v1 import run_engine_pb2
from runengine_server.domain.errors import RunEngineError
from runengine_server.http.connect_calls import Admit, Context, Translate
from runengine_server.http.connect_messages import (
    JSON,
    PROTO,
    AsItIs,
    Encoded,
    read_request,
    write_response,
    write_watch_message,
)
from runengine_server.http.errors import plain_error
from runengine_server.http.grpc_web_text import GrpcWebText
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.caller import current_caller
from runengine_server.rpc.conversion.request import read_watch
from runengine_server.rpc.methods import Method
from runengine_server.rpc.server import RpcServer
from runengine_server.rpc.servicers.workflow_registry import WARNING_KEY
from runengine_server.rpc.text_check import refuse_nul
from runengine_server.rpc.watches import WatchRegistry
from runengine_server.service.services import Services

_cut_off: ContextVar[Callable[[], None]] = ContextVar("cut_off")
"""Ends the call being answered without another byte."""


def connect_routes(
    services: Services, methods: Mapping[str, Method], rpc: RpcServer, body_bytes_max: int
) -> list[BaseRoute]:
    """`/package.Service/Method` of every service.

    Args:
        services: the use cases.
        methods: the unary ones by their full names.
        rpc: the gRPC surface, whose admission and watches these are, too.
        body_bytes_max: of a request.
    """
    endpoints: dict[str, Any] = {
        method.name: Endpoint.unary(_info(method.descriptor), _unary(method)) for method in methods.values()
    }
    watch = run_engine_pb2.DESCRIPTOR.services_by_name["RunEngine"].methods_by_name["WatchRun"]
    endpoints[f"/{watch.containing_service.full_name}/{watch.name}"] = Endpoint.server_stream(
        _info(watch), _watch(services, rpc.watches)
    )
    app = GrpcWebText(_Surface(_Application(endpoints, rpc.admission, body_bytes_max)), body_bytes_max)
    return [Route(path, app) for path in endpoints]


class _Application(ConnectASGIApplication[None]):
    """All services as one application of connectrpc.

    Nothing is compressed: it would happen in the event loop, and what is worth it (a page of steps, a snapshot) is
    large. A proxy in front can compress.
    """

    def __init__(self, endpoints: Mapping[str, Any], admission: Admission, body_bytes_max: int) -> None:
        super().__init__(
            service=None,
            endpoints=lambda _: endpoints,
            interceptors=[Translate(), Admit(admission)],
            read_max_bytes=body_bytes_max,
            compressions=[],
            codecs=[AsItIs(PROTO), AsItIs(JSON)],
        )

    @property
    def path(self) -> str:
        return "/"


class _Surface:
    """Refuses what connectrpc would stumble over, and lets a call be cut off from outside."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_type = Headers(scope=scope).get("content-type", "")
        if content_type.startswith("application/grpc") and not content_type.startswith("application/grpc-web"):
            refusal = plain_error("UNSUPPORTED_MEDIA_TYPE", "gRPC has a port of its own; this one takes gRPC-Web", 415)
            await refusal(scope, receive, send)
        elif not _is_text(scope):
            refusal = plain_error("VALIDATION_FAILED", "a header or the query is not UTF-8 text", 400)
            await refusal(scope, receive, send)
        else:
            with anyio.CancelScope() as whole_call:
                _cut_off.set(whole_call.cancel)
                await self._app(scope, receive, send)


def _unary(method: Method) -> Callable[[Encoded, Context], Awaitable[bytes]]:
    async def answer(request: Encoded, ctx: Context) -> bytes:
        answered = await method.answer(await read_request(request, method.request_class))
        for warning in answered.warnings:
            ctx.response_trailers.add(WARNING_KEY, b64encode(warning.encode()).decode().rstrip("="))
        return await write_response(request.encoding, answered.message)

    return answer


def _watch(services: Services, watches: WatchRegistry) -> Callable[[Encoded, Context], AsyncIterator[bytes]]:
    async def follow(request: Encoded, ctx: Context) -> AsyncIterator[bytes]:
        message = await read_request(request, run_engine_pb2.WatchRunRequest)
        refuse_nul(message)
        wanted = read_watch(message)
        caller = current_caller()
        cut_off = _cut_off.get()

        async def abort(error: RunEngineError) -> None:
            cut_off()  # the connection closes without an end; the reader resumes

        ctx.response_headers["cache-control"] = "no-store"
        ctx.response_headers["x-accel-buffering"] = "no"
        source = services.watch_run(caller, wanted)
        watch = watches.follow(caller, wanted.after_sequence, source, abort=abort, told=lambda message: message)
        async with aclosing(watch):
            async for each in watch:
                yield await write_watch_message(request.encoding, each)
                del each  # it may be large, and the next one hours away

    return follow


def _info(method: MethodDescriptor) -> MethodInfo[Encoded, bytes]:
    is_safe = method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    return MethodInfo(
        name=method.name,
        service_name=method.containing_service.full_name,
        input=Encoded,
        output=bytes,
        idempotency_level=IdempotencyLevel.NO_SIDE_EFFECTS if is_safe else IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY,
    )


def _is_text(scope: Scope) -> bool:
    try:
        for part in (scope["query_string"], *(part for header in scope["headers"] for part in header)):
            part.decode()
    except UnicodeDecodeError:
        return False
    return True
