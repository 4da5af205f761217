"""Reads what a runner answers over HTTP, and holds it to the limits of the gRPC contract by way of its messages."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import anyio.to_thread
import orjson
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from runengine_client.pb.runengine.v1 import skill_runner_pb2
from runengine_server.adapters.skills.artifact_reader import ProtocolError
from runengine_server.adapters.skills.call_reader import MESSAGE_BYTES_MAX, CallReader
from runengine_server.domain.failure import OUTPUT_INVALID, OUTPUT_TOO_LARGE, SKILL_FAILED, SKILL_UNAVAILABLE, Failure
from runengine_server.domain.json_limits import JsonLimits
from runengine_server.domain.json_parsing import parse_json
from runengine_server.domain.json_value import JsonLimitExceeded, JsonObject, JsonProblem, JsonValue
from runengine_server.ports.skill_runner import Failed, Outcome

T = TypeVar("T")

_ON_LOOP_BYTES_MAX: Final = 32 * 1024
# The output's own limits are checked where every runner's are; these bound what is read before.
_LIMITS: Final = JsonLimits(bytes_max=MESSAGE_BYTES_MAX, depth_max=64, nodes_max=400_000)
_RETRY_AFTER_MS_MAX: Final = 24 * 3600 * 1000
_OUTPUT: Final = "/output"

_RETRYABLE_REFUSALS: Final = frozenset({408, 425, 429})
_UNAVAILABLE: Final = {
    401: "The skill's runner did not accept the engine's token",
    403: "The skill's runner did not admit the engine",
    404: "The skill's runner does not offer it",
    429: "The skill's runner has no capacity",
    502: "The skill's runner cannot be reached",
    503: "The skill's runner is not available",
    504: "The skill's runner did not answer its gateway in time",
}


async def read_answer(body: bytes, worker_id: str = "") -> Outcome:
    """The outcome that the body of a 200 tells, or an answer that was kept; a large one is read beside the event loop.

    Args:
        body: as it came.
        worker_id: who accepted the call, where the body does not say.

    Raises:
        ProtocolError: it is not what the contract wants.
    """
    try:
        return await off_loop(body, lambda: outcome_of(read_object(body), worker_id))
    except UnacceptableOutputError as problem:
        return Failed(failure=problem.failure, worker_id=worker_id)


def outcome_of(document: JsonObject, worker_id: str = "") -> Outcome:
    """The outcome that `{output, …}` or `{error: {…}}` tells.

    Raises:
        ProtocolError: it is neither, or beyond its limits.
    """
    reader = CallReader(_no_progress)
    reader.take(_accepted(document, worker_id))
    error = document.get("error")
    if isinstance(error, dict):
        return reader.failure_of(_failure(error, retryable=False))
    if "output" not in document:
        raise ProtocolError("The runner's answer has neither `output` nor `error`")
    for artifact in _list(document, "artifacts"):
        message = skill_runner_pb2.ExecuteResponse()
        message.artifact.SetInParent()
        parse_message(artifact, message.artifact, "an artifact")
        reader.take(message)
    message = skill_runner_pb2.ExecuteResponse()
    message.result.output_json = orjson.dumps(document["output"])
    message.result.do_not_cache = _flag(document, "doNotCache")
    reader.take(message)
    assert reader.outcome is not None, "a result ends the call"
    return reader.outcome


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Failed:
    """What a status other than 200 and 202 means: the body's own words where it has any, else those of the status.

    5xx, 408, 425 and 429 may be tried again unless the body says otherwise, and not before `Retry-After`.
    """
    is_retryable = status >= 500 or status in _RETRYABLE_REFUSALS
    retry_after_s = _retry_after_s(headers.get("retry-after", ""))
    try:
        error = read_object(body).get("error")
    except (ProtocolError, UnacceptableOutputError):
        error = None
    if isinstance(error, dict) and isinstance(error.get("code"), str):
        reader = CallReader(_no_progress)
        failed = reader.failure_of(_failure(error, retryable=is_retryable))
        return Failed(failure=failed.failure, retry_after_s=failed.retry_after_s or retry_after_s)
    message = _UNAVAILABLE.get(status)
    failure = Failure(
        code=SKILL_FAILED if message is None else SKILL_UNAVAILABLE,
        message=message or f"The skill's runner answered with HTTP status {status}",
        retryable=is_retryable,
        details={"httpStatus": status},
    )
    return Failed(failure=failure, retry_after_s=retry_after_s)


class UnacceptableOutputError(Exception):
    """The output itself cannot be kept, though the answer around it is in order."""

    def __init__(self, failure: Failure) -> None:
        """Say why."""
        super().__init__(failure.message)
        self.failure = failure


async def off_loop(body: bytes, read: Callable[[], T]) -> T:
    """What `read` makes of the body, beside the event loop if the body is large."""
    return read() if len(body) <= _ON_LOOP_BYTES_MAX else await anyio.to_thread.run_sync(read)


def read_object(body: bytes) -> JsonObject:
    """The JSON object of a body.

    Raises:
        ProtocolError: it is none, or one that two readers could understand differently.
        UnacceptableOutputError: the same, because of the output in it alone.
    """
    try:
        document = parse_json(body, _LIMITS)
    except JsonProblem as problem:
        if problem.pointer.startswith(_OUTPUT):
            code = OUTPUT_TOO_LARGE if isinstance(problem, JsonLimitExceeded) else OUTPUT_INVALID
            failure = Failure(code=code, message=f"the skill's {problem.pointer.lstrip('/')} is {problem.problem}")
            raise UnacceptableOutputError(failure) from None
        raise ProtocolError(f"The runner's answer is no JSON that can be read: {problem.problem}") from None
    if not isinstance(document, dict):
        raise ProtocolError("The runner's answer is no JSON object")
    return document


def text_of(document: JsonObject, name: str, default: str = "") -> str:
    """A text member.

    Raises:
        ProtocolError: it is something else.
    """
    value = document.get(name, default)
    if not isinstance(value, str):
        raise ProtocolError(f"The runner's answer has a `{name}` that is no text")
    return value


def parse_message(document: JsonValue, message: Message, what: str) -> None:
    """The message has the members of the document that it knows.

    Raises:
        ProtocolError: one of them is of the wrong type.
    """
    if not isinstance(document, dict):
        raise ProtocolError(f"The runner sent {what} that is no JSON object")
    try:
        ParseDict(document, message, ignore_unknown_fields=True)
    except (ParseError, ValueError):  # their words quote values
        raise ProtocolError(f"The runner sent {what} with a member of the wrong type") from None


def _accepted(document: JsonObject, worker_id: str) -> skill_runner_pb2.ExecuteResponse:
    message = skill_runner_pb2.ExecuteResponse()
    message.accepted.worker_id = text_of(document, "workerId", worker_id)
    message.accepted.skill_version = text_of(document, "skillVersion")
    message.accepted.cache_version = text_of(document, "cacheVersion")
    return message


def _failure(error: Mapping[str, Any], *, retryable: bool) -> skill_runner_pb2.ExecuteFailure:
    """The failure as the contract's message; a member of the wrong type is left out: it must not hide what happened."""
    failure = skill_runner_pb2.ExecuteFailure()
    if isinstance(error.get("code"), str):
        failure.code = error["code"]
    if isinstance(error.get("message"), str):
        failure.message = error["message"]
    failure.retryable = error["retryable"] if isinstance(error.get("retryable"), bool) else retryable
    retry_after_ms = error.get("retryAfterMs")
    if isinstance(retry_after_ms, int | float) and retry_after_ms > 0:
        failure.retry_after.FromMilliseconds(round(min(retry_after_ms, _RETRY_AFTER_MS_MAX)))
    if isinstance(error.get("details"), dict):
        parse_message(error["details"], failure.details, "details")
    return failure


def _retry_after_s(value: str) -> float | None:
    """The seconds a `Retry-After` asks for, as a number or a date; None where it cannot be read."""
    if value.isascii() and value.isdecimal() and len(value) <= 9:
        return float(value) or None
    try:
        wait_s = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return wait_s if wait_s > 0 else None


def _list(document: JsonObject, name: str) -> list[JsonValue]:
    value = document.get(name, [])
    if not isinstance(value, list):
        raise ProtocolError(f"The runner's answer has `{name}` that are no list")
    return value


def _flag(document: JsonObject, name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise ProtocolError(f"The runner's answer has a `{name}` that is neither true nor false")
    return value


def _no_progress(fraction: float, message: str, reported_at: datetime) -> None:
    """An answer reports none."""
