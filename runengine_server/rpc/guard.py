"""Stands before every RPC: draining, credential, scope, the status of whatever goes wrong, and what is measured."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import copy_context
from typing import Any, Never, Protocol, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError, Message

from runengine_server.domain.errors import InvalidError, RunEngineError
from runengine_server.ports.request_meter import RequestMeter
from runengine_server.rpc.access import METHOD_ACCESS, Public
from runengine_server.rpc.admission import Admission, bearer_of
from runengine_server.rpc.errors import abort_with, internal_error
from runengine_server.rpc.metered import UNKNOWN, Measured, measured
from runengine_server.rpc.off_loop import read_off_loop
from runengine_server.rpc.serialized import Serialized, serializer_of
from runengine_server.rpc.text_check import may_hold_nul, refuse_nul

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class Answers(Protocol):
    """What a streaming method returns."""

    def __aiter__(self) -> AsyncIterator[Message | Serialized]:
        """The replies."""

    async def aclose(self) -> None:
        """Nobody asks for more."""


class Guard(grpc.aio.ServerInterceptor):
    """Lets a call through to its servicer only as `METHOD_ACCESS` says; requests are parsed after that.

    Handlers without a scope in the table (health, reflection) are only measured. Those with one must be plain unary
    coroutines, or functions that return `Answers`, with a single request. Must be the last interceptor: it asks for a
    method's handler once.
    """

    def __init__(self, admission: Admission, meter: RequestMeter) -> None:
        """Let in whom `admission` admits; tell `meter` of every call that has ended."""
        self._admission = admission
        self._meter = meter
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """The handler of a call with the checks before it; None, as gRPC has it, for a method that does not exist."""
        method = _text(handler_call_details.method)
        known = self._handlers.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            self._meter.rpc_answered(UNKNOWN, grpc.StatusCode.UNIMPLEMENTED.name, None)
            return None
        is_public = METHOD_ACCESS.get(method) is Public.PUBLIC
        found = measured(self._meter, method, handler) if is_public else self._guard(method, handler)
        self._handlers[method] = found
        return found

    def _guard(self, method: str, handler: Handler) -> Handler:
        call = _GuardedCall(self._admission, self._meter, method, handler)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                cast("Any", call.stream), response_serializer=serializer_of(cast("Any", handler.response_serializer))
            )
        return grpc.unary_unary_rpc_method_handler(
            cast("Any", call.unary), response_serializer=handler.response_serializer
        )


class _GuardedCall:
    """The checks of one method; its handler gets raw bytes, so that nothing of a stranger's request is parsed."""

    def __init__(self, admission: Admission, meter: RequestMeter, method: str, handler: Handler) -> None:
        self._admission = admission
        self._meter = meter
        self._method = method
        self._handler = handler

    async def unary(self, data: bytes, context: Context) -> Message:
        """Answer a unary call."""
        with Measured(self._meter, self._method, context, is_stream=False):
            try:
                with self._admission.call():
                    request = await self._admit(data, context)
                    answer = cast("Awaitable[Message]", _behaviour(self._handler.unary_unary)(request, context))
                    return await answer
            except Exception as error:
                await self._refuse(context, error)

    async def stream(self, data: bytes, context: Context) -> AsyncIterator[Message | Serialized]:
        """Answer a streaming call.

        A generator rather than `context.write`, which OpenTelemetry's and Prometheus' interceptors do not survive. It
        is the only one here: thousands of calls wait in it for hours, and another around it takes 0.5 KB of each.
        """
        with Measured(self._meter, self._method, context, is_stream=True):
            try:
                with self._admission.call():
                    answers = await self._begin(data, context)
                    try:
                        # Sent now, as a status from outside a blocked first write could not send it a second time.
                        await context.send_initial_metadata(())
                        async for answer in answers:
                            yield answer
                    finally:
                        await answers.aclose()
            except Exception as error:
                await self._refuse(context, error)

    async def _begin(self, data: bytes, context: Context) -> Answers:
        """The answers of a stream; who calls is known while it begins, in a context (0.15 KB) that it need not keep."""
        beginning = copy_context()
        request = await asyncio.get_running_loop().create_task(self._admit(data, context), context=beginning)
        behave = _behaviour(self._handler.unary_stream)
        return cast("Answers", beginning.run(behave, request, context))

    async def _admit(self, data: bytes, context: Context) -> Message:
        """Authenticate, authorise and parse, in this order; the caller is known afterwards."""
        await self._admission.admit(self._method, bearer_token(context))
        request = self._parse(data)
        if may_hold_nul(data):
            await read_off_loop(refuse_nul, request)
        return request

    def _parse(self, data: bytes) -> Message:
        try:
            return cast("Message", self._handler.request_deserializer(data))  # type: ignore[misc]
        except DecodeError as error:
            raise unreadable_error() from error

    async def _refuse(self, context: Context, error: Exception) -> Never:
        """End the call with the status of an error."""
        if isinstance(error, grpc.aio.BaseError):  # aborted already, or the client is gone
            raise error
        known = error if isinstance(error, RunEngineError) else internal_error(error, self._method)
        await abort_with(context, known)


def unreadable_error() -> InvalidError:
    """What a request gets that protobuf cannot parse."""
    return InvalidError(
        "VALIDATION_FAILED",
        "the request is not a valid message of its type, or a payload in it is nested deeper than 32 levels",
    )


def bearer_token(context: Context) -> str | None:
    """The call's bearer token, None without one.

    Raises:
        UnauthenticatedError: TOKEN_INVALID for several credentials, as there is no telling which one counts.
    """
    metadata = context.invocation_metadata() or ()
    return bearer_of([_text(value) for key, value in metadata if _text(key) == "authorization"])


def _behaviour(function: object) -> Callable[[Message, Context], object]:
    return cast("Callable[[Message, Context], object]", function)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
