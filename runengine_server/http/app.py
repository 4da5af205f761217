"""Puts the HTTP surface together: endpoints, who may call from where, and what every answer carries."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runengine_server.http.artifact_content import ArtifactContents
from runengine_server.http.connect import connect_routes
from runengine_server.http.console import console_routes
from runengine_server.http.errors import plain_error
from runengine_server.http.events import LAST_EVENT_ID, RunEvents
from runengine_server.http.openapi import openapi_endpoint
from runengine_server.http.rest import rest_endpoints
from runengine_server.http.settings import HttpSettings
from runengine_server.http.watch_tokens import RunReaders
from runengine_server.http.workflow_upload import workflow_endpoints
from runengine_server.rpc.methods import unary_methods
from runengine_server.rpc.server import RpcServer
from runengine_server.rpc.servicers.workflow_registry import WARNING_KEY
from runengine_server.service.services import Services

_HEADERS_ALLOWED = (
    "authorization",
    "content-type",
    LAST_EVENT_ID,
    "connect-protocol-version",
    "connect-timeout-ms",
    "x-grpc-web",
    "x-user-agent",
    "grpc-timeout",
    "traceparent",
    "tracestate",
)
_HEADERS_EXPOSED = (
    "content-range",
    "etag",
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "retry-after",
    f"trailer-{WARNING_KEY}",  # how Connect sends trailing metadata of an answer
)

_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


def http_app(services: Services, rpc: RpcServer, settings: HttpSettings, further: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The application of port 3001.

    Args:
        services: the use cases.
        rpc: the gRPC surface, whose admission, watches and draining are everybody's.
        settings: origins and limits.
        further: routes of other parts, asked after the API's own.
    """
    methods = unary_methods(services, rpc.watches)
    readers = RunReaders(rpc.admission, services)
    routes: list[BaseRoute] = [
        *rest_endpoints(methods, rpc.admission, readers, settings.body_bytes_max),
        *workflow_endpoints(methods, rpc.admission, settings.body_bytes_max),
        *ArtifactContents(services, rpc.admission, readers).endpoints(),
        RunEvents(services, rpc.watches, rpc.admission, readers).endpoint(),
        *connect_routes(services, methods, rpc, settings.body_bytes_max),
        openapi_endpoint(methods),
        *console_routes(),
        *further,
    ]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST"],
        allow_headers=list(_HEADERS_ALLOWED),
        expose_headers=list(_HEADERS_EXPOSED),
    )
    return Starlette(
        routes=routes,
        middleware=[Middleware(_AlwaysHeaders), cors],
        exception_handlers={404: _no_such_path, 405: _no_such_verb},
    )


class _AlwaysHeaders:
    """Adds to every answer what a browser should know of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_ALWAYS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _no_such_path(request: Request, error: Exception) -> Response:
    return plain_error("PATH_NOT_FOUND", f"there is nothing at {request.url.path}", 404)


async def _no_such_verb(request: Request, error: Exception) -> Response:
    return plain_error("METHOD_NOT_ALLOWED", f"{request.url.path} does not take {request.method}", 405)
