"""What requests that start a run must satisfy."""

import pytest

from runengine_server.domain.errors import InvalidError
from runengine_server.domain.ids import StepId
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.planner.compiled import compile_workflow
from runengine_server.service.request_checks import VIOLATIONS_MAX, check_plan_digest, check_request_id, find_steps

STEPS = tuple(StepDefinition(step_id=StepId(each), skill_id="x") for each in "abc")  # type: ignore[arg-type]
COMPILED = compile_workflow(Workflow(name="wf", version="1.0.0", steps=STEPS))


def test_steps_are_found_in_definition_order() -> None:
    """Named steps come as numbers in the order of the definition, whatever the order they are named in."""
    assert find_steps("forceStepIds", ["c", "a"], COMPILED) == (0, 2)
    assert find_steps("forceStepIds", [], COMPILED) == ()


def test_unknown_and_repeated_steps_are_named() -> None:
    """Every wrong id is refused by its place, at most as many as a status carries."""
    with pytest.raises(InvalidError) as refused:
        find_steps("forceStepIds", ["a", "x" * 200, "a"], COMPILED)
    assert [violation.field for violation in refused.value.violations] == ["forceStepIds[1]", "forceStepIds[2]"]
    assert "wf 1.0.0 has no step" in refused.value.violations[0].description
    assert len(refused.value.violations[0].description) < 120
    assert refused.value.violations[1].description == "names a a second time"
    with pytest.raises(InvalidError) as refused:
        find_steps("forceStepIds", ["x"] * 5_000, COMPILED)
    assert len(refused.value.violations) == VIOLATIONS_MAX


@pytest.mark.parametrize("digest", ["x", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"])
def test_what_is_no_digest_is_refused(digest: str) -> None:
    """An expected plan digest has 64 lower-case hex digits; an empty one expects nothing."""
    check_plan_digest("")
    check_plan_digest("0a" * 32)
    with pytest.raises(InvalidError, match="expectedPlanDigest"):
        check_plan_digest(digest)


@pytest.mark.parametrize("request_id", ["x" * 129, "a\tb"])
def test_request_ids_are_bounded(request_id: str) -> None:
    """A request id has at most 128 printable characters."""
    check_request_id("x" * 128)
    with pytest.raises(InvalidError, match="requestId"):
        check_request_id(request_id)
