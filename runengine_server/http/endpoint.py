"""Around every endpoint: the call is counted, whatever goes wrong becomes an answer, and nothing is served twice."""

from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from runengine_server.domain.errors import RunEngineError
from runengine_server.http.errors import error_response, plain_error
from runengine_server.http.requests import MediaTypeError
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.errors import internal_error

Behaviour = Callable[[Request], Awaitable[Response]]

_CLIENT_CLOSED = 499


def endpoint(admission: Admission, behave: Behaviour) -> Behaviour:
    """A Starlette endpoint that counts as a call until its answer is made."""

    async def answer(request: Request) -> Response:
        try:
            with admission.call():
                return await behave(request)
        except RunEngineError as error:
            return error_response(error)
        except MediaTypeError as error:
            return plain_error("UNSUPPORTED_MEDIA_TYPE", str(error), 415)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_CLOSED)
        except Exception as error:
            return error_response(internal_error(error, f"{request.method} {request.url.path}"))

    return answer
