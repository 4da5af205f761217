"""What a client sees of refusals and failures."""

import logging
from typing import Any

import pytest
from grpc import StatusCode

from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_server.domain import errors
from runengine_server.domain.errors import FieldViolation
from runengine_server.rpc.errors import CODE_BY_CLASS, CODE_BY_REASON

from .refusals import refused

pytestmark = pytest.mark.anyio

CLASS_BY_CODE = {code: cls for cls, code in CODE_BY_CLASS.items()}


def make_error(reason: str, **arguments: Any) -> errors.RunEngineError:
    return CLASS_BY_CODE[CODE_BY_REASON[reason]](reason, f"because of {reason}", **arguments)


async def test_every_reason_has_its_code_and_decodable_details(served):
    """Each reason arrives with the status code of the table and an ErrorInfo that names it."""
    engine = await served.engine()
    for reason, code in CODE_BY_REASON.items():
        if code not in CLASS_BY_CODE:
            continue  # of the contract, but nothing here says it
        served.services.error = make_error(reason)
        error, details = await refused(engine.GetRun(pb.GetRunRequest(run_id="x")))
        assert error.code() is code, reason
        assert (details["ErrorInfo"].reason, details["ErrorInfo"].domain) == (reason, "runengine.v1")
        assert error.details() == served.services.error.message


@pytest.mark.parametrize(
    ("error", "kind", "check"),
    [
        (
            errors.InvalidError("VALIDATION_FAILED", "m", violations=[FieldViolation(field="a/b", description="d")]),
            "BadRequest",
            lambda d: (d.field_violations[0].field, d.field_violations[0].description) == ("a/b", "d"),
        ),
        (
            errors.NotFoundError("RUN_NOT_FOUND", "m", metadata={"runId": "r1"}),
            "ResourceInfo",
            lambda d: (d.resource_type, d.resource_name) == ("runengine.v1.Run", "r1"),
        ),
        (
            errors.ConflictError("REQUEST_ID_REUSED", "m", metadata={"requestId": "q"}),
            "ResourceInfo",
            lambda d: (d.resource_type, d.resource_name) == ("runengine.v1.Request", "q"),
        ),
        (
            errors.PreconditionError("BASE_RUN_NOT_COMPLETED", "m", metadata={"runId": "r1"}),
            "PreconditionFailure",
            lambda d: (d.violations[0].type, d.violations[0].subject) == ("BASE_RUN_NOT_COMPLETED", "r1"),
        ),
        (
            errors.ExhaustedError("QUEUE_FULL", "m", retry_after_s=2.5, metadata={"subject": "tenant"}),
            "QuotaFailure",
            lambda d: d.violations[0].subject == "tenant",
        ),
        *(
            (errors.ExhaustedError(reason, "m"), "QuotaFailure", lambda d: bool(d.violations[0].subject))
            for reason in ("QUEUE_FULL", "TOO_MANY_WATCHES", "PAYLOAD_TOO_LARGE")
        ),
        (
            errors.ExhaustedError("QUEUE_FULL", "m", retry_after_s=2.5),
            "RetryInfo",
            lambda d: d.retry_delay.ToMilliseconds() == 2500,
        ),
        (
            errors.UnavailableError("DATABASE_UNAVAILABLE", "m"),
            "RetryInfo",
            lambda d: d.retry_delay.ToMilliseconds() == 1000,
        ),
    ],
)
async def test_details_apply_to_their_reason(served, error, kind, check):
    """Each error carries the detail messages that apply to it, filled in."""
    served.services.error = error
    _, details = await refused((await served.engine()).GetRun(pb.GetRunRequest(run_id="x")))
    assert check(details[kind])


async def test_a_defect_shows_an_id_and_nothing_else(served, caplog):
    """An unknown exception becomes INTERNAL with an id; text and traceback are in the log alone, under that id."""
    served.services.error = ZeroDivisionError("secret internals")
    with caplog.at_level(logging.ERROR, logger="runengine_server.rpc.errors"):
        error, details = await refused((await served.engine()).GetRun(pb.GetRunRequest(run_id="x")))
    assert error.code() is StatusCode.INTERNAL
    assert details["ErrorInfo"].reason == "INTERNAL"
    error_id = details["ErrorInfo"].metadata["errorId"]
    assert "secret internals" not in str(error) + str(details)
    assert error_id in caplog.text
    assert "ZeroDivisionError: secret internals" in caplog.text


async def test_more_violations_than_a_header_holds_still_arrive(served):
    """A refusal with thousands of violations keeps its reason and the first ones, and says how many it left out."""
    violations = [FieldViolation(field=f"steps[{i}].depends_on", description="is unknown – ü" * 5) for i in range(3000)]
    served.services.error = errors.InvalidError("WORKFLOW_INVALID", "ä" * 5000, violations=violations)
    engine = await served.engine()
    for _ in range(20):  # clients refuse headers above 8 KiB at random
        error, details = await refused(engine.GetRun(pb.GetRunRequest(run_id="x")))
        assert error.code() is StatusCode.INVALID_ARGUMENT
        kept = details["BadRequest"].field_violations
        assert len(kept) > 20
        assert kept[0].field == "steps[0].depends_on"
        assert int(details["ErrorInfo"].metadata["violationsOmitted"]) == 3000 - len(kept)
