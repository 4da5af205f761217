"""What a call can end in other than its answer: one tree of exceptions, decoded from google.rpc.Status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

ERROR_DOMAIN = "runengine.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One thing wrong with a request or a workflow: the field's path and a sentence that says what."""

    field: str
    description: str


class RunEngineError(Exception):
    """A call was refused or failed.

    Attributes:
        reason: stable, upper snake case, from the contract's table (`RUN_NOT_FOUND`); the status code's name where the
            answer did not come from RunEngine itself.
        message: one sentence for a person.
        violations: what is wrong, field by field.
        metadata: further facts.
        retry_after_s: when the server suggests to try again, in seconds; None when it does not say.
        is_from_server: True when RunEngine itself refused, False for the network, a proxy or this client.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        is_from_server: bool = False,
    ) -> None:
        """Build the error; see the class for the arguments."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.is_from_server = is_from_server

    def __str__(self) -> str:
        """The message with its reason."""
        return f"{self.message} ({self.reason})"


class InvalidArgumentError(RunEngineError):
    """The request can never work as it is."""


class NotFoundError(RunEngineError):
    """No such run, workflow, step or artifact, or another tenant's."""


class AlreadyExistsError(RunEngineError):
    """The request id or the workflow version was used with other content."""


class FailedPreconditionError(RunEngineError):
    """The state of what is named does not allow it."""


class AbortedError(RunEngineError):
    """What the caller relied on changed meanwhile, such as the plan."""


class OutOfRangeError(RunEngineError):
    """Beyond the end, such as a sequence in the future."""


class ResourceExhaustedError(RunEngineError):
    """A limit was reached."""


class UnauthenticatedError(RunEngineError):
    """No valid token."""


class PermissionDeniedError(RunEngineError):
    """The token lacks a scope."""


class UnavailableError(RunEngineError):
    """The server is not reachable, or asks to come back later."""


class DeadlineExceededError(RunEngineError):
    """No answer within the call's timeout; the server may still have done it."""


class UnimplementedError(RunEngineError):
    """The server does not have this feature (yet)."""


class InternalError(RunEngineError):
    """A defect in the server, or an answer that makes no sense."""


class WatchBrokenError(RunEngineError):
    """A watch skipped events: a defect in a server or a proxy, never ignored."""


_BY_CODE: Mapping[grpc.StatusCode, type[RunEngineError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRangeError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,  # the far side went away; our own cancellation never gets here
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
}


def decode_rpc_error(error: grpc.aio.AioRpcError) -> RunEngineError:
    """The exception that says what the server said."""
    details = _Details()
    try:
        status = rpc_status.from_call(cast("grpc.Call", error))  # an AioRpcError has the methods it asks
    except ValueError:
        status = None  # details that contradict the status: the status itself is all that can be trusted
    for packed in status.details if status is not None else ():
        details.read(packed)
    code = error.code()
    return _BY_CODE.get(code, InternalError)(
        details.reason or code.name,
        error.details() or code.name,
        violations=details.violations,
        metadata=details.metadata,
        retry_after_s=details.retry_after_s,
        is_from_server=bool(details.reason),
    )


class _Details:
    """Collects the details of a google.rpc.Status that this client understands."""

    def __init__(self) -> None:
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.violations: list[FieldViolation] = []
        self.retry_after_s: float | None = None

    def read(self, packed: any_pb2.Any) -> None:
        """Take over one packed detail; an unknown kind is skipped."""
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        precondition = error_details_pb2.PreconditionFailure()
        quota = error_details_pb2.QuotaFailure()
        retry = error_details_pb2.RetryInfo()
        unpack = packed.Unpack
        if unpack(info) and info.domain == ERROR_DOMAIN:
            self.reason = info.reason
            self.metadata = dict(info.metadata)
        elif unpack(bad):
            self._add((each.field, each.description) for each in bad.field_violations)
        elif unpack(precondition):
            self._add((each.subject, each.description) for each in precondition.violations)
        elif unpack(quota):
            self._add((each.subject, each.description) for each in quota.violations)
        elif unpack(retry):
            self.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()

    def _add(self, pairs: Iterable[tuple[str, str]]) -> None:
        for name, description in pairs:
            self.violations.append(FieldViolation(field=name, description=description))
