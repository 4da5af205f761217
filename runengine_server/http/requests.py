"""What every endpoint needs of a request: the credential, and a body that is JSON and not too long."""

from collections.abc import Collection, Mapping

from starlette.requests import Request

from runengine_server.domain.errors import ExhaustedError, FieldViolation, InvalidError
from runengine_server.domain.json_limits import JsonLimits
from runengine_server.domain.json_parsing import parse_json
from runengine_server.domain.json_value import JsonLimitExceeded, JsonObject, JsonProblem
from runengine_server.rpc.admission import bearer_of
from runengine_server.rpc.conversion.problems import Problems

_DEPTH_MAX = 40
"""Payloads may have 32 levels; their own check says so precisely."""

_VALUES_MAX = 200_000


class MediaTypeError(Exception):
    """The body is not of a type that the endpoint takes."""


def bearer_token(request: Request) -> str | None:
    """The request's bearer token, None without one.

    Raises:
        UnauthenticatedError: TOKEN_INVALID for several credentials, as there is no telling which one counts.
    """
    return bearer_of(request.headers.getlist("authorization"))


def check_query(request: Request, *, flags: Collection[str]) -> None:
    """Return when the query of a POST, whose body says the rest, has nothing but these flags, each true or false.

    What it says in vain is not passed over: `?validateOnly=true` would start a run.

    Raises:
        InvalidError: VALIDATION_FAILED.
    """
    problems = Problems()
    for name, value in request.query_params.multi_items():
        if name not in flags:
            problems.add_json_path(name, "is not a parameter of this request; say it in the body")
        elif value not in ("true", "false"):
            problems.add_json_path(name, "must be true or false")
    problems.raise_if_any()


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The whole body.

    Raises:
        ExhaustedError: PAYLOAD_TOO_LARGE.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bytes_max:
        raise _too_large(bytes_max)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
    return bytes(body)


def read_json_object(body: bytes, headers: Mapping[str, str]) -> JsonObject:
    """The object in a body; an empty one for an empty body.

    Raises:
        MediaTypeError: the body says that it is something else.
        InvalidError: VALIDATION_FAILED: it is no JSON object, or one that two readers could understand differently.
        ExhaustedError: PAYLOAD_TOO_LARGE: too deep or too many values.
    """
    if not body.strip():
        return {}
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise MediaTypeError(f"the body is {media_type}; send JSON with content-type: application/json")
    try:
        value = parse_json(body, JsonLimits(bytes_max=len(body), depth_max=_DEPTH_MAX, nodes_max=_VALUES_MAX))
    except JsonLimitExceeded as excess:
        raise ExhaustedError("PAYLOAD_TOO_LARGE", f"the body is {excess.problem} at {excess.pointer or '/'}") from None
    except JsonProblem as problem:
        raise _invalid(problem.pointer, problem.problem) from None
    if not isinstance(value, dict):
        raise _invalid("", "must be a JSON object")
    return value


def _invalid(pointer: str, problem: str) -> InvalidError:
    place = f" at {pointer}" if pointer else ""
    violation = FieldViolation(field=pointer.lstrip("/") or "body", description=problem)
    return InvalidError("VALIDATION_FAILED", f"the body cannot be read{place}: {problem}", violations=[violation])


def _too_large(bytes_max: int) -> ExhaustedError:
    return ExhaustedError(
        "PAYLOAD_TOO_LARGE",
        f"the body is longer than {bytes_max} bytes; publish large data as an artifact and send its URI",
        metadata={"field": "body", "subject": "body"},
    )
