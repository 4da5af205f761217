"""Two runs side by side: where inputs and outputs differ, and which steps are to blame."""

from dataclasses import replace

import pytest

from runengine_server.domain.errors import InvalidError, NotFoundError, ScopeRequiredError
from runengine_server.service import compare_runs as module
from runengine_server.service.compare_runs import compare_runs
from runengine_server.service.message_size import MESSAGE_BYTES_MAX
from runengine_server.service.messages import RunComparison

from .conftest import CALLER, STRANGER, Made, World, diamond, wide
from .played_runs import Script, play, reuse
from .test_explain_step import CALM, campaign

pytestmark = pytest.mark.anyio


async def compared(world: World, left: Made, right: Made) -> RunComparison:
    return await compare_runs(world.read, CALLER, left.run_id, right.run_id)


async def test_same_runs(world: World) -> None:
    """Runs with equal inputs and outputs have no differences and no causes, whoever executed the steps."""
    payload = {"brief": "b", "style": "calm"}
    left = await play(world, await world.create(campaign(), payload), CALM)
    right = await world.create(campaign(), payload, base=left, reused=await reuse(world, left, "plan", "music", "mix"))
    found = await compared(world, left, right)
    assert [diff.step_id for diff in found.steps] == ["plan", "music", "mix"]
    assert {(diff.input_pointers, diff.output_changed) for diff in found.steps} == {((), False)}
    assert found.root_cause_step_ids == ()


async def test_cause_and_consequence(world: World) -> None:
    """The step that reads what changed in the payload is the cause; what follows from its output is not."""
    left = await play(world, await world.create(campaign(), {"brief": "b", "style": "calm"}), CALM)
    louder = replace(CALM, outputs={**CALM.outputs, "music": {"of": "epic music"}})
    right = await play(world, await world.create(campaign(), {"brief": "b", "style": "epic"}), louder)
    plan, music, mix = (found := await compared(world, left, right)).steps
    assert (plan.input_pointers, plan.output_changed) == ((), False)
    assert (music.input_pointers, music.output_changed) == (("/style",), True)
    assert (mix.input_pointers, mix.output_changed) == (("/of",), False)
    assert music.left is not None and music.right is not None
    assert (music.left.run_id, music.right.run_id) == (left.run_id, right.run_id)
    assert found.root_cause_step_ids == ("music",)


async def test_a_step_with_a_cause_of_its_own(world: World) -> None:
    """A step that inherits a difference and also reads what changed is a cause too."""
    left = await play(world, await world.create(campaign(), {"brief": "b", "style": "calm"}), CALM)
    other = Script(outputs={"plan": {"mood": "wild"}})
    right = await play(world, await world.create(campaign(), {"brief": "c", "style": "epic"}), other)
    found = await compared(world, left, right)
    assert found.steps[1].input_pointers == ("/mood", "/style")
    assert found.root_cause_step_ids == ("plan", "music")


async def test_another_output_for_the_same_input(world: World) -> None:
    """A step that gave something else for the same input is the cause."""
    payload = {"brief": "b", "style": "calm"}
    left = await play(world, await world.create(campaign(), payload), CALM)
    right = await play(world, await world.create(campaign(), payload), Script(outputs={"plan": {"mood": "wild"}}))
    found = await compared(world, left, right)
    assert found.root_cause_step_ids == ("plan",)
    assert [diff.output_changed for diff in found.steps] == [True, False, False]


async def test_versions_and_unfinished_runs(world: World) -> None:
    """Steps only one version has, and steps without an output, are rows; what is not settled is no cause."""
    newer = campaign("2.0.0")
    extra = replace(newer.steps[0], step_id="extra")  # type: ignore[arg-type]
    newer = replace(newer, steps=(extra, *newer.steps))
    left = await play(world, await world.create(campaign(), {"brief": "b", "style": "calm"}), CALM)
    right = await world.create(newer, {"brief": "b", "style": "calm"})
    found = await compared(world, left, right)
    assert [diff.step_id for diff in found.steps] == ["extra", "plan", "music", "mix"]
    assert (found.steps[0].left, found.steps[0].output_changed) == (None, False)
    assert found.steps[1].output_changed
    assert found.root_cause_step_ids == ()
    back = await compared(world, right, left)
    assert [diff.step_id for diff in back.steps] == ["plan", "music", "mix", "extra"]
    assert back.steps[3].right is None


async def test_inputs_beyond_the_bound_are_judged_by_the_graph(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where inputs are no longer looked at there are no pointers, and causes follow from who depends on whom."""
    left = await play(world, await world.create(campaign(), {"brief": "b", "style": "calm"}), CALM)
    other = Script(outputs={"plan": {"mood": "wild"}})
    right = await play(world, await world.create(campaign(), {"brief": "c", "style": "epic"}), other)
    monkeypatch.setattr(module, "INPUTS_MAX", 1)
    found = await compared(world, left, right)
    assert [diff.input_pointers for diff in found.steps] == [("/brief",), (), ()]
    assert found.root_cause_step_ids == ("plan",)


async def test_large_workflows_fit_into_a_message(world: World) -> None:
    """Of ten thousand steps the unchanged ones lose their details or rows, and those that differ keep theirs."""
    left = await world.create(wide(10_000))
    (lease, *_) = await world.lease(1)
    right = await world.create(wide(10_000))
    await world.complete(world.executed(lease), capacity=0)
    found = await compared(world, left, right)
    assert sum(map(module._diff_bytes, found.steps)) <= MESSAGE_BYTES_MAX
    (changed,) = [diff for diff in found.steps if diff.output_changed]
    assert changed.left is not None and changed.left.cache is not None


async def test_refusals(world: World) -> None:
    """Runs of two workflows do not compare; foreign runs are not found on either side; the scope is needed."""
    mine, other = await world.create(diamond()), await world.create(wide(1))
    with pytest.raises(InvalidError, match="is a run of wide1, leftRunId one of diamond") as refused:
        await compared(world, mine, other)
    assert refused.value.violations[0].field == "rightRunId"
    for left, right in ((mine.run_id, "nope"), ("nope", mine.run_id)):
        with pytest.raises(NotFoundError):
            await compare_runs(world.read, CALLER, left, right)
    with pytest.raises(NotFoundError):
        await compare_runs(world.read, STRANGER, mine.run_id, mine.run_id)
    with pytest.raises(ScopeRequiredError):
        await compare_runs(world.read, replace(CALLER, scopes=frozenset()), mine.run_id, mine.run_id)
