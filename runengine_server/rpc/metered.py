"""Tells a RequestMeter of gRPC calls that have ended."""

import asyncio
from time import perf_counter
from types import TracebackType
from typing import Any, Final, TypeAlias

import grpc

from runengine_server.ports.request_meter import RequestMeter

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context = grpc.aio.ServicerContext[Any, Any]

UNKNOWN: Final = "unknown"
"""The method of calls to what is not served, and a status that gRPC does not know."""

_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


class Measured:
    """Stands around all that answers a call; when it is left, the meter is told."""

    __slots__ = ("_began_s", "_context", "_meter", "_name")

    def __init__(self, meter: RequestMeter, name: str, context: Context, *, is_stream: bool) -> None:
        """The call begins now; that of a stream has no duration."""
        self._meter = meter
        self._name = name
        self._context = context
        self._began_s = None if is_stream else perf_counter()

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The call has ended, with the status that it has been given."""
        is_cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
        code = grpc.StatusCode.CANCELLED.name if is_cancelled else _code(self._context)
        duration_s = None if self._began_s is None else perf_counter() - self._began_s
        self._meter.rpc_answered(self._name, code, duration_s)


def measured(meter: RequestMeter, name: str, handler: Handler) -> Handler:
    """The handler of a plain coroutine, measured; health's stream is one, too, and writes its messages by itself."""
    if handler.request_streaming:  # reflection alone
        return handler
    behaviour: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary
    make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler

    async def answer(request: Any, context: Context) -> Any:
        with Measured(meter, name, context, is_stream=handler.response_streaming):
            return await behaviour(request, context)

    return make(answer, handler.request_deserializer, handler.response_serializer)


def _code(context: Context) -> str:
    """The status a call ends with; one that nobody set is OK."""
    code: Any = context.code()
    return _NAMES.get(code, UNKNOWN) if isinstance(code, int) else getattr(code, "name", grpc.StatusCode.OK.name)
