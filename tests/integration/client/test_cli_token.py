"""A token that is missing or not taken is told with what to do about it, where the server cannot know that."""

import json
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from runengine_client.cli.app import app

from .conftest import FakeRunEngine, Serving
from .messages import RUN_ID

ADVICE = {
    "TOKEN_MISSING": "Pass it with --token or in TOKEN; with make dev, `source .dev/env` sets it",
    "TOKEN_INVALID": "Pass one of this server that has not expired with --token or, unless RUNENGINE_TOKEN is set, in "
    "TOKEN; with make dev, `source .dev/env` sets it",
}


@pytest.fixture(params=ADVICE)
def reason(request: Any, fake: FakeRunEngine, make_fault: Any) -> str:
    """Why the server refuses the next GetRun."""
    refusal = {"code": "UNAUTHENTICATED", "reason": request.param, "metadata": {"lastSequence": "5"}}
    fake.faults["GetRun"] = [make_fault(**refusal, message="The server's words")]
    return str(request.param)


def asked(serving: Serving, *arguments: str) -> Result:
    done = CliRunner().invoke(app, ["--target", serving.target, "--token", "s3cret", *arguments])
    assert done.exit_code == 1
    assert "s3cret" not in done.output
    return done


def test_people_are_told(serving: Serving, reason: str) -> None:
    """The server's words come first, then one sentence of what to do."""
    told = asked(serving, "get", RUN_ID).stderr
    assert told == f"error: The server's words. {ADVICE[reason]} ({reason})\n"


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_are_told(serving: Serving, reason: str, form: str, load: Any) -> None:
    """The same sentence is in the message of the object, beside the facts of the refusal."""
    assert load(asked(serving, "get", RUN_ID, "--output", form).stderr)["error"] == {
        "code": reason,
        "message": f"The server's words. {ADVICE[reason]}",
        "status": 401,
        "details": {"lastSequence": "5"},
    }


def test_other_refusals_stay(serving: Serving, fake: FakeRunEngine, make_fault: Any) -> None:
    """A token that is taken but may not do this needs no other place to stand in."""
    fake.faults["GetRun"] = [make_fault(code="PERMISSION_DENIED", reason="SCOPE_REQUIRED", message="not with this one")]
    assert asked(serving, "get", RUN_ID).stderr == "error: not with this one (SCOPE_REQUIRED)\n"
