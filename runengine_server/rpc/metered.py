"""Tells a RequestMeter of every gRPC call that has ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any, TypeAlias

import grpc

from runengine_server.ports.request_meter import RequestMeter

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Context = grpc.aio.ServicerContext[Any, Any]

UNKNOWN = "unknown"

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class MeteredCalls(grpc.aio.ServerInterceptor):
    """The first interceptor of a server: it sees the status that everything behind it gives a call."""

    def __init__(self, meter: RequestMeter) -> None:
        """Tell `meter`."""
        self._meter = meter
        self._metered: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """The method's handler, measured; handlers do not change, so each is wrapped once."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        name = method.decode() if isinstance(method, bytes) else method
        if handler is None:
            self._meter.rpc_answered(UNKNOWN, grpc.StatusCode.UNIMPLEMENTED.name, None)
            return None
        known = self._metered.get(name)
        if known is None or known[0] is not handler:
            known = self._metered[name] = handler, self._wrap(name, handler)
        return known[1]

    def _wrap(self, name: str, handler: Handler) -> Handler:
        call = _MeteredCall(self._meter, name, handler)
        if handler.request_streaming:  # reflection alone
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                call.stream,
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            call.unary,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


class _MeteredCall:
    """One method's behaviour between two readings of the clock."""

    def __init__(self, meter: RequestMeter, name: str, handler: Handler) -> None:
        self._meter = meter
        self._name = name
        self._handler: Any = handler

    async def unary(self, request: Any, context: Context) -> Any:
        began_s = perf_counter()
        code = None
        try:
            return await self._handler.unary_unary(request, context)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED.name
            raise
        finally:
            self._meter.rpc_answered(self._name, code or _code(context), perf_counter() - began_s)

    async def stream(self, request: Any, context: Context) -> AsyncIterator[Any]:
        code = None
        try:
            async for message in self._handler.unary_stream(request, context):
                yield message
        except (asyncio.CancelledError, GeneratorExit):
            code = grpc.StatusCode.CANCELLED.name
            raise
        finally:
            self._meter.rpc_answered(self._name, code or _code(context), None)


def _code(context: Context) -> str:
    """The status a call ends with; one that nobody set is OK."""
    code: Any = context.code()
    return _NAMES.get(code, UNKNOWN) if isinstance(code, int) else getattr(code, "name", grpc.StatusCode.OK.name)
