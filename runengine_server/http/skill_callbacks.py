"""`POST /skill-calls/{callId}/…`: runners without gRPC say how a call goes, and show the secret of that call."""

from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Endpoint

from runengine_server.http.endpoint import endpoint
from runengine_server.http.errors import plain_error
from runengine_server.http.requests import bearer_token, read_body
from runengine_server.http.routes import BASE_PATH
from runengine_server.ports.skill_calls import CallbackKind, SkillCallbacks, Verdict
from runengine_server.rpc.admission import Admission

PATH: Final = "/skill-calls/{callId}/{kind}"

_REFUSALS: Final = {
    Verdict.STALE: (
        "FENCING_TOKEN_STALE",
        "a later attempt asks for this call: answer with its fencing token",
        409,
    ),
    Verdict.ENDED: ("SKILL_CALL_ENDED", "the call has ended with another answer, which stays", 409),
    Verdict.UNKNOWN: ("SKILL_CALL_NOT_FOUND", "nobody waits for this call, or its token is another one", 404),
}


def skill_callback_endpoint(callbacks: SkillCallbacks, admission: Admission, body_bytes_max: int) -> Endpoint:
    """Where callbacks are taken.

    Args:
        callbacks: what takes them.
        admission: counts them among the calls that draining waits for; the secret of a call is no user's token.
        body_bytes_max: of one callback.
    """

    async def behave(request: Request) -> Response:
        secret = bearer_token(request)
        if secret is None:
            return plain_error("TOKEN_MISSING", "send the callback's token: authorization: Bearer …", 401)
        try:
            kind, call_id = CallbackKind(request.path_params["kind"]), UUID(request.path_params["callId"])
        except ValueError:
            return plain_error("PATH_NOT_FOUND", f"there is nothing at {request.url.path}", 404)
        verdict = await callbacks.take(kind, call_id, secret, await read_body(request, body_bytes_max))
        if verdict in _REFUSALS:
            return plain_error(*_REFUSALS[verdict])
        return JSONResponse({"status": verdict.value})

    return Endpoint(BASE_PATH + PATH, endpoint(admission, behave), methods=["POST"])
