"""Stands before every RPC: draining, credential, scope, what is not built, and the status of whatever goes wrong."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Never, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError, Message

from runengine_server.domain.errors import InvalidError, RunEngineError
from runengine_server.rpc.access import METHOD_ACCESS, Public
from runengine_server.rpc.admission import Admission, bearer_of
from runengine_server.rpc.errors import abort_with, internal_error
from runengine_server.rpc.off_loop import read_off_loop
from runengine_server.rpc.serialized import Serialized, serializer_of
from runengine_server.rpc.text_check import may_hold_nul, refuse_nul

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class Guard(grpc.aio.ServerInterceptor):
    """Lets a call through to its servicer only as `METHOD_ACCESS` says; requests are parsed after that.

    Handlers without a scope in the table (health, reflection) pass untouched. Those with one must be plain unary
    coroutines or asynchronous generators with a single request. Must be the last interceptor: it asks for a method's
    handler once.
    """

    def __init__(self, admission: Admission) -> None:
        """Let in whom `admission` admits."""
        self._admission = admission
        self._guarded: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """The handler of a call with the checks before it; None, as gRPC has it, for a method that does not exist."""
        method = _text(handler_call_details.method)
        guarded = self._guarded.get(method)
        if guarded is not None:
            return guarded
        handler = await continuation(handler_call_details)
        access = METHOD_ACCESS.get(method)
        if handler is None or access is Public.PUBLIC:
            return handler
        self._guarded[method] = self._guard(method, handler)
        return self._guarded[method]

    def _guard(self, method: str, handler: Handler) -> Handler:
        call = _GuardedCall(self._admission, method, handler)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                cast("Any", call.stream), response_serializer=serializer_of(cast("Any", handler.response_serializer))
            )
        return grpc.unary_unary_rpc_method_handler(
            cast("Any", call.unary), response_serializer=handler.response_serializer
        )


class _GuardedCall:
    """The checks of one method; its handler gets raw bytes, so that nothing of a stranger's request is parsed."""

    def __init__(self, admission: Admission, method: str, handler: Handler) -> None:
        self._admission = admission
        self._method = method
        self._handler = handler

    async def unary(self, data: bytes, context: Context) -> Message:
        """Answer a unary call."""
        try:
            with self._admission.call():
                request = await self._admit(data, context)
                answer = cast("Awaitable[Message]", _behaviour(self._handler.unary_unary)(request, context))
                return await answer
        except Exception as error:
            await self._refuse(context, error)

    async def stream(self, data: bytes, context: Context) -> AsyncIterator[Message | Serialized]:
        """Answer a streaming call."""
        try:
            with self._admission.call():
                request = await self._admit(data, context)
                answers = cast(
                    "AsyncGenerator[Message | Serialized, None]",
                    _behaviour(self._handler.unary_stream)(request, context),
                )
                async with aclosing(answers):
                    async for message in answers:
                        yield message
        except Exception as error:
            await self._refuse(context, error)

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
