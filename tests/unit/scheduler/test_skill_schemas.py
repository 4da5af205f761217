"""What a skill declares of its input and output is held to, before it is called and after it has answered."""

import pytest

from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import RunStatus, StepStatus
from runengine_server.ports.skill_runner import SkillCall, Succeeded

from .doubles import succeeded
from .stage import chain, stage, step, workflow

pytestmark = pytest.mark.anyio

NUMBERS: JsonObject = {"properties": {"trigger": {"type": "number"}}, "required": ["trigger"]}
LARGE = "y" * 20_000


@pytest.mark.parametrize("text", ["hunter2", LARGE], ids=["inline", "in a thread"])
async def test_input_is_checked_before_the_call(text: str) -> None:
    """A step whose skill would not accept its input fails for good, without a call, naming the pointer only."""
    async with stage() as on:
        on.skills.input_schema = NUMBERS
        run = await on.start(workflow(step("a", trigger="x", attempts=5)), {"x": text})
        assert await on.ended(run) == [RunStatus.FAILED]
        assert on.skills.calls == []
        (result,) = on.tables.results.values()
        assert result.error is not None
        assert (result.error.code, result.error.retryable) == ("INPUT_INVALID", False)
        assert result.error.message == (
            "step a: the input does not satisfy the schema of skill.a: /trigger must be of type number"
        )
        assert result.error.details is not None and result.error.details["pointer"] == "/trigger"
        assert text not in str(result.error)
        assert on.tables.runs[run].error == result.error


@pytest.mark.parametrize("text", ["hunter2", LARGE], ids=["inline", "in a thread"])
async def test_output_is_checked_after_the_call(text: str) -> None:
    """An output that departs from the skill's schema is OUTPUT_INVALID, is not retried, and reaches no dependent."""

    def lie(call: SkillCall) -> Succeeded:
        return succeeded(call, {"n": text})

    async with stage() as on:
        on.skills.output_schema = {"properties": {"n": {"type": "number"}}}
        on.skills.behaviour["a"] = lie
        run = await on.start(chain(), {"x": 1})
        assert await on.ended(run) == [RunStatus.FAILED]
        assert [call.step_id for call in on.skills.calls] == ["a"]
        assert on.statuses(run)["a"] is StepStatus.FAILED
        error = on.tables.runs[run].error
        assert error is not None and (error.code, error.retryable) == ("OUTPUT_INVALID", False)
        assert error.details is not None and error.details["pointer"] == "/n"
        assert text not in str(error)


async def test_what_conforms_runs() -> None:
    """Inputs and outputs that satisfy their schemas change nothing."""
    async with stage() as on:
        on.skills.input_schema = {"properties": {"trigger": {"type": "number"}}}
        on.skills.output_schema = {"required": ["of", "in"]}
        run = await on.start(chain(), {"x": 1})
        assert await on.ended(run) == [RunStatus.COMPLETED]
