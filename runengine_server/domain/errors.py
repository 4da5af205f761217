"""What can be refused or go wrong, as a tree of errors with stable reasons; one table in rpc maps them to statuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One thing wrong with a request or a workflow: the field's path and a sentence that says what to do."""

    field: str
    description: str


class RunEngineError(Exception):
    """A refusal or failure a caller can understand; `reason` is stable, `message` says what to do."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Build the error.

        Args:
            reason: upper-snake, from API's error table.
            message: one sentence for a person.
            violations: what is wrong, field by field.
            metadata: further facts, no secrets and no payloads.
            retry_after_s: when trying again makes sense, in seconds; None when it does not.
        """
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s


class InvalidError(RunEngineError):
    """The request can never work as it is (INVALID_ARGUMENT)."""


class NotFoundError(RunEngineError):
    """The thing named does not exist, or belongs to another tenant (NOT_FOUND)."""


class ConflictError(RunEngineError):
    """Something else already has that name or id (ALREADY_EXISTS)."""


class PreconditionError(RunEngineError):
    """The state of what is named does not allow it (FAILED_PRECONDITION)."""


class ChangedError(RunEngineError):
    """What the caller relied on changed meanwhile (ABORTED)."""


class OutOfRangeError(RunEngineError):
    """Beyond the end (OUT_OF_RANGE)."""


class ExhaustedError(RunEngineError):
    """A limit was reached (RESOURCE_EXHAUSTED)."""


class UnauthenticatedError(RunEngineError):
    """No valid credential (UNAUTHENTICATED)."""


class ScopeRequiredError(RunEngineError):
    """The credential lacks a scope (PERMISSION_DENIED)."""


class UnavailableError(RunEngineError):
    """Try again later (UNAVAILABLE)."""
