"""The error table is the contract's."""

from grpc import StatusCode

from runengine_client.pb.runengine.v1 import error_reason_pb2
from runengine_server.domain import errors
from runengine_server.rpc.errors import CODE_BY_CLASS, CODE_BY_REASON, code_of, to_status

# Transcribed from the contract's table, row by row.
CONTRACT = {
    "INVALID_ARGUMENT": "VALIDATION_FAILED WORKFLOW_INVALID PAGE_TOKEN_INVALID PAYLOAD_SCHEMA_MISMATCH "
    "UNKNOWN_CHANGE_TYPE",
    "NOT_FOUND": "RUN_NOT_FOUND WORKFLOW_NOT_FOUND STEP_NOT_FOUND ARTIFACT_NOT_FOUND CACHE_ENTRY_NOT_FOUND "
    "ARTIFACT_GONE ARTIFACT_OUT_OF_REACH",
    "ALREADY_EXISTS": "REQUEST_ID_REUSED WORKFLOW_VERSION_CONFLICT",
    "FAILED_PRECONDITION": "BASE_RUN_NOT_COMPLETED RUN_NOT_RETRYABLE IMPACT_WIDENED SKILL_UNREGISTERED",
    "ABORTED": "PLAN_CHANGED",
    "OUT_OF_RANGE": "SEQUENCE_IN_FUTURE",
    "RESOURCE_EXHAUSTED": "QUEUE_FULL TOO_MANY_WATCHES PAYLOAD_TOO_LARGE WATCH_STALLED TOO_MANY_DOWNLOADS",
    "UNAUTHENTICATED": "TOKEN_MISSING TOKEN_INVALID",
    "PERMISSION_DENIED": "SCOPE_REQUIRED",
    "UNAVAILABLE": "DRAINING DATABASE_UNAVAILABLE ARTIFACT_STORE_UNAVAILABLE AUTHENTICATION_UNAVAILABLE",
    "INTERNAL": "INTERNAL",
    "UNIMPLEMENTED": "NOT_YET_IMPLEMENTED",
}


def test_the_table_is_the_contracts() -> None:
    """Every reason of the contract has its code, and the table has no other reason."""
    expected = {reason: StatusCode[code] for code, reasons in CONTRACT.items() for reason in reasons.split()}
    assert expected == CODE_BY_REASON


def test_the_table_has_the_reasons_of_the_proto() -> None:
    """The enum clients generate has exactly the table's reasons."""
    names = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name}
    assert names - {"UNSPECIFIED"} == CODE_BY_REASON.keys()


def test_every_error_class_has_a_code_of_its_own() -> None:
    """No class of the tree is missing; codes of classes and reasons are the same, but for what is never said."""
    assert {errors.RunEngineError, *errors.RunEngineError.__subclasses__()} == CODE_BY_CLASS.keys()
    assert set(CODE_BY_CLASS.values()) | {StatusCode.UNIMPLEMENTED} == set(CODE_BY_REASON.values())
    assert len(set(CODE_BY_CLASS.values())) == len(CODE_BY_CLASS)


def test_a_reason_outside_the_table_has_its_classs_code() -> None:
    """A reason that is not listed is still no INTERNAL error."""
    assert code_of(errors.NotFoundError("NEW_THING_NOT_FOUND", "m")) is StatusCode.NOT_FOUND


def test_a_status_fits_into_a_clients_headers() -> None:
    """However long message, metadata and violations are, the status stays below what clients accept."""
    violation = errors.FieldViolation(field="f" * 300, description="d" * 3_000)
    error = errors.InvalidError(
        "VALIDATION_FAILED", "ü" * 10_000, violations=[violation] * 50, metadata={"k": "v" * 9_000}
    )
    status = to_status(error)
    assert status.ByteSize() + 3 * len(status.message.encode()) < 8_192
    assert status.message.endswith("…")
