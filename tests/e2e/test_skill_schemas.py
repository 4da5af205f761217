"""Schemas that skills declare over the wire are held to: when a run is started, before a call and after it."""

import pytest

from runengine_client import RunEngineClient
from runengine_client.errors import InvalidArgumentError
from runengine_client.states import RunStatus
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.skill_server_process import SkillServerProcess
from .workflows import single

pytestmark = pytest.mark.anyio


async def test_start_with_input_that_no_skill_takes_is_refused(
    client: RunEngineClient, skills: SkillServerProcess
) -> None:
    """A root step's input is checked at Trigger: one violation for each place, nothing of the payload, no run."""
    await client.register_workflow(single("typed.root", skill="t.typed", input={"number": expression("trigger.given")}))
    with pytest.raises(InvalidArgumentError) as refused:
        await client.trigger("typed.root", {"given": "hunter2"})
    assert refused.value.reason == "VALIDATION_FAILED"
    assert [violation.field for violation in refused.value.violations] == ["steps.only.input/number"]
    assert "hunter2" not in str(refused.value)
    handle = await client.start("typed.root", {"given": 1})
    assert (await handle.wait()).status is RunStatus.COMPLETED


async def test_input_that_turns_out_wrong_fails_without_a_call(
    client: RunEngineClient, skills: SkillServerProcess
) -> None:
    """A step whose input comes from another fails for good before its skill is called."""
    passed_on = {"number": expression("steps.first.output.number")}
    workflow = (
        WorkflowBuilder("typed.later", version="1.0.0")
        .step("first", skill="t.echo", input={"number": expression("trigger.given")})
        .step("second", skill="t.typed", needs=["first"], input=passed_on, max_attempts=3)
        .build()
    )
    await client.register_workflow(workflow)
    run = await (await client.start("typed.later", {"given": "hunter2"})).wait()
    assert (run.status, run.failed_step) == (RunStatus.FAILED, "second")
    assert run.error is not None and run.error.code == "INPUT_INVALID"
    assert run.error.details is not None and run.error.details["pointer"] == "/number"
    assert "hunter2" not in run.error.message
    assert skills.calls(run_id=run.id) == 1


async def test_output_that_breaks_its_schema_is_not_used(client: RunEngineClient, skills: SkillServerProcess) -> None:
    """An output against its skill's own schema is OUTPUT_INVALID, and is not tried again."""
    workflow = single("typed.lie", skill="t.typed", input={"lie": expression("trigger.given")}, max_attempts=3)
    await client.register_workflow(workflow)
    run = await (await client.start("typed.lie", {"given": "hunter2"})).wait()
    assert run.error is not None and run.error.code == "OUTPUT_INVALID"
    assert run.error.details is not None and run.error.details["pointer"] == "/number"
    assert "hunter2" not in run.error.message
    assert skills.calls(run_id=run.id) == 1
