"""Tells a RequestMeter of every gRPC call that has ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from inspect import isasyncgenfunction
from time import perf_counter
from typing import Any, TypeAlias, cast

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
        if handler.request_streaming:  # reflection alone
            return handler
        wire = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if not handler.response_streaming:
            call = _MeteredCall(self._meter, name, handler.unary_unary, is_stream=False)
            return grpc.unary_unary_rpc_method_handler(call.answer, **wire)
        call = _MeteredCall(self._meter, name, handler.unary_stream, is_stream=True)
        is_generator = isasyncgenfunction(handler.unary_stream)  # health writes its messages by itself
        return grpc.unary_stream_rpc_method_handler(cast("Any", call.stream if is_generator else call.answer), **wire)


class _MeteredCall:
    """One method's behaviour between two readings of the clock."""

    def __init__(self, meter: RequestMeter, name: str, behaviour: Any, *, is_stream: bool) -> None:
        self._meter = meter
        self._name = name
        self._behaviour = behaviour
        self._is_stream = is_stream

    async def answer(self, request: Any, context: Context) -> Any:
        with self._measured(context):
            return await self._behaviour(request, context)

    async def stream(self, request: Any, context: Context) -> AsyncIterator[Any]:
        with self._measured(context):
            async with aclosing(self._behaviour(request, context)) as messages:
                async for message in messages:
                    yield message

    @contextmanager
    def _measured(self, context: Context) -> Iterator[None]:
        began_s = perf_counter()
        code = ""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            code = grpc.StatusCode.CANCELLED.name
            raise
        finally:
            duration_s = None if self._is_stream else perf_counter() - began_s
            self._meter.rpc_answered(self._name, code or _code(context), duration_s)


def _code(context: Context) -> str:
    """The status a call ends with; one that nobody set is OK."""
    code: Any = context.code()
    return _NAMES.get(code, UNKNOWN) if isinstance(code, int) else getattr(code, "name", grpc.StatusCode.OK.name)
