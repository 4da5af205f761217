"""Refusals as HTTP answers: the same reasons and messages as gRPC, the status by gRPC's code."""

from collections.abc import Mapping
from math import ceil
from typing import Final

from grpc import StatusCode
from starlette.responses import JSONResponse, Response

from runengine_server.domain.errors import RunEngineError
from runengine_server.domain.json_value import JsonObject
from runengine_server.rpc.errors import code_of

HTTP_STATUS: Final[Mapping[StatusCode, int]] = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.ABORTED: 409,
    StatusCode.FAILED_PRECONDITION: 409,
    StatusCode.OUT_OF_RANGE: 416,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.INTERNAL: 500,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
}


def error_response(error: RunEngineError) -> Response:
    """The answer to a refused request."""
    status = HTTP_STATUS[code_of(error)]
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after_s)))
    if status == HTTP_STATUS[StatusCode.UNAUTHENTICATED]:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), status_code=status, headers=headers)


def error_body(error: RunEngineError) -> JsonObject:
    """`{"error": {code, message, status, details}}`; details only where there are any."""
    body: JsonObject = {
        "code": error.reason,
        "message": error.message,
        "status": HTTP_STATUS[code_of(error)],
    }
    details: JsonObject = dict(error.metadata)
    if error.violations:
        details["violations"] = [
            {"field": violation.field, "description": violation.description} for violation in error.violations
        ]
    if error.retry_after_s is not None:
        details["retryAfterMs"] = round(error.retry_after_s * 1000)
    if details:
        body["details"] = details
    return {"error": body}


def plain_error(code: str, message: str, status: int) -> Response:
    """A refusal of HTTP's own, which gRPC does not have: no such path, no such method, another media type."""
    return JSONResponse({"error": {"code": code, "message": message, "status": status}}, status_code=status)
