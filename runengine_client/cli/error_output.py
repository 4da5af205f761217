"""Errors for programs: the object that the HTTP surface answers with, whatever the error came from."""

from collections.abc import Mapping

from runengine_client import errors
from runengine_client.errors import RunEngineError
from runengine_client.payload import JsonObject, JsonValue

_STATUS: Mapping[type[RunEngineError], int] = {
    errors.InvalidArgumentError: 400,
    errors.UnauthenticatedError: 401,
    errors.PermissionDeniedError: 403,
    errors.NotFoundError: 404,
    errors.AlreadyExistsError: 409,
    errors.AbortedError: 409,
    errors.FailedPreconditionError: 409,
    errors.OutOfRangeError: 416,
    errors.ResourceExhaustedError: 429,
    errors.UnimplementedError: 501,
    errors.UnavailableError: 503,
    errors.DeadlineExceededError: 504,
}
_STATUS_OF_THE_REST = 500


def error_body(error: RunEngineError) -> JsonObject:
    """`{"error": {code, message, status, details}}`; details, an object, only where there are any."""
    details: dict[str, JsonValue] = {**error.metadata}
    if error.violations:
        details["violations"] = [
            {"field": violation.field, "description": violation.description} for violation in error.violations
        ]
    if error.retry_after_s is not None:
        details["retryAfterMs"] = round(error.retry_after_s * 1000)
    body: dict[str, JsonValue] = {"code": error.reason, "message": error.message, "status": _status(error)}
    return {"error": body | ({"details": details} if details else {})}


def _status(error: RunEngineError) -> int:
    """The status of the same refusal over HTTP."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), _STATUS_OF_THE_REST)
