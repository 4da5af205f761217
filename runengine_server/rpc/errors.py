"""THE table from refusals to gRPC statuses, and the google.rpc.Status that goes with them."""

import logging
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final, Never
from urllib.parse import quote

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from runengine_server.domain import errors as domain

ERROR_DOMAIN: Final = "runengine.v1"

CODE_BY_CLASS: Final[Mapping[type[domain.RunEngineError], StatusCode]] = {
    domain.InvalidError: StatusCode.INVALID_ARGUMENT,
    domain.NotFoundError: StatusCode.NOT_FOUND,
    domain.ConflictError: StatusCode.ALREADY_EXISTS,
    domain.PreconditionError: StatusCode.FAILED_PRECONDITION,
    domain.ChangedError: StatusCode.ABORTED,
    domain.OutOfRangeError: StatusCode.OUT_OF_RANGE,
    domain.ExhaustedError: StatusCode.RESOURCE_EXHAUSTED,
    domain.UnauthenticatedError: StatusCode.UNAUTHENTICATED,
    domain.ScopeRequiredError: StatusCode.PERMISSION_DENIED,
    domain.UnavailableError: StatusCode.UNAVAILABLE,
    domain.RunEngineError: StatusCode.INTERNAL,
}

CODE_BY_REASON: Final[Mapping[str, StatusCode]] = {
    "VALIDATION_FAILED": StatusCode.INVALID_ARGUMENT,
    "WORKFLOW_INVALID": StatusCode.INVALID_ARGUMENT,
    "PAGE_TOKEN_INVALID": StatusCode.INVALID_ARGUMENT,
    "PAYLOAD_SCHEMA_MISMATCH": StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_CHANGE_TYPE": StatusCode.INVALID_ARGUMENT,
    "RUN_NOT_FOUND": StatusCode.NOT_FOUND,
    "WORKFLOW_NOT_FOUND": StatusCode.NOT_FOUND,
    "STEP_NOT_FOUND": StatusCode.NOT_FOUND,
    "ARTIFACT_NOT_FOUND": StatusCode.NOT_FOUND,
    "CACHE_ENTRY_NOT_FOUND": StatusCode.NOT_FOUND,
    "ARTIFACT_GONE": StatusCode.NOT_FOUND,
    "ARTIFACT_OUT_OF_REACH": StatusCode.NOT_FOUND,
    "REQUEST_ID_REUSED": StatusCode.ALREADY_EXISTS,
    "WORKFLOW_VERSION_CONFLICT": StatusCode.ALREADY_EXISTS,
    "BASE_RUN_NOT_COMPLETED": StatusCode.FAILED_PRECONDITION,
    "RUN_NOT_RETRYABLE": StatusCode.FAILED_PRECONDITION,
    "IMPACT_WIDENED": StatusCode.FAILED_PRECONDITION,
    "SKILL_UNREGISTERED": StatusCode.FAILED_PRECONDITION,
    "PLAN_CHANGED": StatusCode.ABORTED,
    "SEQUENCE_IN_FUTURE": StatusCode.OUT_OF_RANGE,
    "QUEUE_FULL": StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_WATCHES": StatusCode.RESOURCE_EXHAUSTED,
    "PAYLOAD_TOO_LARGE": StatusCode.RESOURCE_EXHAUSTED,
    "WATCH_STALLED": StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_DOWNLOADS": StatusCode.RESOURCE_EXHAUSTED,
    "TOKEN_MISSING": StatusCode.UNAUTHENTICATED,
    "TOKEN_INVALID": StatusCode.UNAUTHENTICATED,
    "SCOPE_REQUIRED": StatusCode.PERMISSION_DENIED,
    "DRAINING": StatusCode.UNAVAILABLE,
    "DATABASE_UNAVAILABLE": StatusCode.UNAVAILABLE,
    "ARTIFACT_STORE_UNAVAILABLE": StatusCode.UNAVAILABLE,
    "AUTHENTICATION_UNAVAILABLE": StatusCode.UNAVAILABLE,
    "INTERNAL": StatusCode.INTERNAL,
    "NOT_YET_IMPLEMENTED": StatusCode.UNIMPLEMENTED,  # of the contract; this server has all of it
}

_RESOURCE_BY_REASON: Final[Mapping[str, tuple[str, str]]] = {
    "RUN_NOT_FOUND": ("Run", "runId"),
    "WORKFLOW_NOT_FOUND": ("Workflow", "workflowName"),
    "STEP_NOT_FOUND": ("Step", "stepId"),
    "ARTIFACT_NOT_FOUND": ("Artifact", "artifactId"),
    "CACHE_ENTRY_NOT_FOUND": ("CacheEntry", "key"),
    "ARTIFACT_GONE": ("Artifact", "artifactId"),
    "ARTIFACT_OUT_OF_REACH": ("Artifact", "artifactId"),
    "REQUEST_ID_REUSED": ("Request", "requestId"),
    "WORKFLOW_VERSION_CONFLICT": ("Workflow", "workflowName"),
    "BASE_RUN_NOT_COMPLETED": ("Run", "runId"),
    "RUN_NOT_RETRYABLE": ("Run", "runId"),
    "IMPACT_WIDENED": ("Run", "runId"),
    "SKILL_UNREGISTERED": ("Skill", "skillIds"),
}
"""For each reason about one thing: the kind of thing and the metadata key that names it."""

_QUOTA_SUBJECT_DEFAULT: Final[Mapping[str, str]] = {
    "QUEUE_FULL": "queue",
    "TOO_MANY_WATCHES": "server",
    "TOO_MANY_DOWNLOADS": "server",
    "PAYLOAD_TOO_LARGE": "payload",
}
"""Reasons that carry a QuotaFailure, and its subject where the error itself does not say; it is never empty."""

_RETRY_AFTER_S_DEFAULT: Final[Mapping[str, float]] = {
    "DRAINING": 1.0,
    "DATABASE_UNAVAILABLE": 1.0,
    "ARTIFACT_STORE_UNAVAILABLE": 1.0,
    "AUTHENTICATION_UNAVAILABLE": 1.0,
    "QUEUE_FULL": 1.0,
}
"""Reasons whose RetryInfo is promised; used where the error itself does not say."""

_TRAILERS_BYTES_MAX = 7_500
"""gRPC clients refuse headers at random from 8,192 bytes on, then lose the whole error; measured, grpcio 1.85."""

_MESSAGE_BYTES_MAX = 1_500
_METADATA_VALUE_CHARS_MAX = 256

_log = logging.getLogger(__name__)


def code_of(error: domain.RunEngineError) -> StatusCode:
    """The status code: the reason's, else that of the error's class."""
    by_reason = CODE_BY_REASON.get(error.reason)
    if by_reason is not None:
        return by_reason
    return next(CODE_BY_CLASS[base] for base in type(error).__mro__ if base in CODE_BY_CLASS)


def to_status(error: domain.RunEngineError) -> status_pb2.Status:
    """The google.rpc.Status: ErrorInfo first, then what applies; fits into a client's header limit.

    Violations that do not fit are left out from the end; metadata's `violationsOmitted` then says how many.
    """
    message = _clip_message(error.message)
    budget = _TRAILERS_BYTES_MAX - len(quote(message))
    kept = len(error.violations)
    while True:
        status = _build_status(error, message, kept)
        if status.ByteSize() <= budget or kept == 0:
            return status
        kept = min(kept - 1, kept * budget // status.ByteSize())


def internal_error(cause: Exception, where: str) -> domain.RunEngineError:
    """What a caller gets for a defect: an id that the log knows, together with the traceback.

    Args:
        cause: what was raised.
        where: the method, for the log.
    """
    error_id = str(uuid.uuid4())
    _log.error("Internal error %s in %s", error_id, where, exc_info=cause, extra={"error_id": error_id})
    return domain.RunEngineError(
        "INTERNAL",
        f"the server failed; its log knows this as error {error_id}",
        metadata={"errorId": error_id},
    )


async def abort_with(context: "grpc.aio.ServicerContext[Any, Any]", error: domain.RunEngineError) -> Never:
    """End the call with this error.

    `abort` and not `abort_with_status`, which OpenTelemetry's interceptor does not see.
    """
    status = to_status(error)
    await context.abort(
        code_of(error), status.message, trailing_metadata=(("grpc-status-details-bin", status.SerializeToString()),)
    )


def _build_status(error: domain.RunEngineError, message: str, violations_kept: int) -> status_pb2.Status:
    status = status_pb2.Status(code=code_of(error).value[0], message=message)
    for detail in _details(error, message, violations_kept):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _details(error: domain.RunEngineError, message: str, violations_kept: int) -> Iterator[Message]:
    metadata = {key: value[:_METADATA_VALUE_CHARS_MAX] for key, value in error.metadata.items()}
    omitted = len(error.violations) - violations_kept
    if omitted:
        metadata["violationsOmitted"] = str(omitted)
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata)

    if error.violations:
        bad_request = error_details_pb2.BadRequest()
        for violation in error.violations[:violations_kept]:
            bad_request.field_violations.add(field=violation.field, description=violation.description)
        yield bad_request

    kind, key = _RESOURCE_BY_REASON.get(error.reason, ("", ""))
    name = metadata.get(key, "")
    match code_of(error):
        case StatusCode.NOT_FOUND | StatusCode.ALREADY_EXISTS:
            yield error_details_pb2.ResourceInfo(
                resource_type=f"{ERROR_DOMAIN}.{kind}" if kind else "", resource_name=name, description=message
            )
        case StatusCode.FAILED_PRECONDITION:
            failure = error_details_pb2.PreconditionFailure()
            failure.violations.add(type=error.reason, subject=name, description=message)
            yield failure
        case _ if error.reason in _QUOTA_SUBJECT_DEFAULT:
            quota = error_details_pb2.QuotaFailure()
            subject = metadata.get("subject") or metadata.get("field") or _QUOTA_SUBJECT_DEFAULT[error.reason]
            quota.violations.add(subject=subject, description=message)
            yield quota

    retry_after_s = error.retry_after_s
    if retry_after_s is None:
        retry_after_s = _RETRY_AFTER_S_DEFAULT.get(error.reason)
    if retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(retry_after_s * 1e9))
        yield retry


def _clip_message(message: str) -> str:
    """The message, shortened until its percent-encoded form fits."""
    while len(quote(message)) > _MESSAGE_BYTES_MAX:
        message = message[: len(message) * 9 // 10].rstrip() + "…"
    return message
