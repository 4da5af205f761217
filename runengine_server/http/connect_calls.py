"""Around every Connect and gRPC-Web call: it is counted, its caller admitted, and its errors are those of gRPC."""

from contextlib import ExitStack
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.interceptor import MetadataInterceptor
from connectrpc.request import RequestContext
from protobuf.wkt import Any as Packed

from runengine_server.domain.errors import ExhaustedError, InvalidError, RunEngineError
from runengine_server.rpc.admission import Admission, bearer_of
from runengine_server.rpc.errors import code_of, internal_error, to_status

Context = RequestContext[Any, Any]


class Admit(MetadataInterceptor[ExitStack]):
    """Lets calls in before anything of them is read, and counts them until they end."""

    def __init__(self, admission: Admission) -> None:
        """Ask this admission."""
        self._admission = admission

    async def on_start(self, ctx: Context) -> ExitStack:
        """The call counts and its caller is known.

        Raises:
            RunEngineError: why it may not be made.
        """
        with ExitStack() as stack:
            stack.enter_context(self._admission.call())
            await self._admission.admit(method_name(ctx), bearer_of(ctx.request_headers.getall("authorization")))
            return stack.pop_all()

    async def on_end(self, token: ExitStack, ctx: Context, error: Exception | None, /) -> None:
        """The call counts no more."""
        token.close()


class Translate(MetadataInterceptor[None]):
    """Turns whatever a call fails with into the status that gRPC would give it; must be the first."""

    async def on_start(self, ctx: Context) -> None:
        """Nothing yet."""

    async def on_end(self, token: None, ctx: Context, error: Exception | None, /) -> None:
        """Return when the call succeeded.

        Raises:
            ConnectError: what it failed with.
        """
        if error is not None:
            raise connect_error(error, method_name(ctx)) from error


def method_name(ctx: Context) -> str:
    """The full name, `/package.Service/Method`."""
    return f"/{ctx.method.service_name}/{ctx.method.name}"


def connect_error(error: Exception, method: str) -> ConnectError:
    """The error with code, message and google.rpc details; a defect is logged and told by its id."""
    match error:
        case RunEngineError():
            known = error
        case ConnectError(code=Code.RESOURCE_EXHAUSTED, details=[]):  # longer than connectrpc was told to read
            known = ExhaustedError("PAYLOAD_TOO_LARGE", error.message)
        case ConnectError(code=Code.INVALID_ARGUMENT, details=[]):  # an envelope, a header, a query of another form
            known = InvalidError("VALIDATION_FAILED", error.message)
        case ConnectError():
            return error
        case _:
            known = internal_error(error, method)
    status = to_status(known)
    details = [ErrorDetail(Packed(type_url=each.type_url, value=each.value)) for each in status.details]
    return ConnectError(Code[code_of(known).name], status.message, details)
