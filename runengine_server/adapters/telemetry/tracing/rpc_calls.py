"""Records the gRPC calls of the engine's services."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final, TypeAlias, cast

import grpc
from grpc import StatusCode
from opentelemetry.trace import Span

from runengine_server.adapters.telemetry.tracing.attributes import Attributes
from runengine_server.adapters.telemetry.tracing.served_calls import ServedCalls, failed

_OURS: Final = "/runengine."
_SERVERS_FAULT: Final = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)
_BY_NUMBER: Final = {code.value[0]: code for code in StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class RpcCalls(grpc.aio.ServerInterceptor):
    """A span around each call; health and reflection have none. Asks for a method's handler once, as the guard does."""

    def __init__(self, calls: ServedCalls) -> None:
        """Record with these."""
        self._calls = calls
        self._traced: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """The handler of a call, with a span around what it does."""
        method = _text(handler_call_details.method)
        traced = self._traced.get(method)
        if traced is not None:
            return traced
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith(_OURS):
            return handler
        self._traced[method] = self._trace(method, handler)
        return self._traced[method]

    def _trace(self, method: str, handler: Handler) -> Handler:
        name = method.removeprefix("/")
        service, _, short = name.partition("/")
        said: Attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": short}

        async def unary(request: object, context: Context) -> object:
            with self._calls.call(name, _headers(context), said) as span:
                try:
                    return await cast("Any", handler.unary_unary)(request, context)
                finally:
                    _say_how_it_ended(span, context)

        async def stream(request: object, context: Context) -> AsyncIterator[object]:
            with self._calls.stream(name, _headers(context), said) as span:
                try:
                    async with aclosing(cast("Any", handler.unary_stream)(request, context)) as messages:
                        async for message in messages:
                            yield message
                finally:
                    _say_how_it_ended(span, context)

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                cast("Any", stream), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            cast("Any", unary), handler.request_deserializer, handler.response_serializer
        )


def _say_how_it_ended(span: Span, context: Context) -> None:
    set_code: Any = context.code()  # a StatusCode, its number, or nothing yet
    code = _BY_NUMBER.get(set_code, set_code) or StatusCode.OK
    if context.cancelled():
        code = StatusCode.CANCELLED
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code in _SERVERS_FAULT:
        failed(span, code.name)


def _headers(context: Context) -> Iterator[tuple[str, str]]:
    return ((_text(name), _text(value)) for name, value in context.invocation_metadata() or ())


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
