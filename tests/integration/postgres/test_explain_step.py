"""Why a step is as it is, read from real rows: what changed in its input, from where, and what the cache said."""

from dataclasses import replace
from uuid import uuid4

import pytest

from runengine_server.domain.errors import NotFoundError, ScopeRequiredError
from runengine_server.domain.ids import SkillId, StepId, WorkflowDigest
from runengine_server.domain.states import PlanReason, StepStatus
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.service import list_steps as list_steps_module
from runengine_server.service.explain_step import explain_step
from runengine_server.service.list_steps import list_steps
from runengine_server.service.messages import ListStepsRequest

from .conftest import CALLER, STRANGER, Made, World, diamond
from .played_runs import Script, play, replan, reuse

pytestmark = pytest.mark.anyio


def campaign(version: str = "1.0.0", *, style: str = "trigger.style") -> Workflow:
    """plan -> music (style, plan's mood) -> mix (music's output)."""
    return Workflow(
        name="campaign",
        version=version,
        digest=WorkflowDigest(version.encode().hex().ljust(64, "0")),
        steps=(
            StepDefinition(
                step_id=StepId("plan"), skill_id=SkillId("plan"), input_selector={"brief": "${{ trigger.brief }}"}
            ),
            StepDefinition(
                step_id=StepId("music"),
                skill_id=SkillId("music"),
                depends_on=(StepId("plan"),),
                input_selector={"style": f"${{{{ {style} }}}}", "mood": "${{ steps.plan.output.mood }}"},
            ),
            StepDefinition(
                step_id=StepId("mix"),
                skill_id=SkillId("mix"),
                depends_on=(StepId("music"),),
                input_selector={"of": "${{ steps.music.output.of }}"},
            ),
        ),
    )


CALM = Script(outputs={"plan": {"mood": "calm"}})


async def told(world: World, made: Made, step_id: str) -> list[str]:
    explanation = await explain_step(world.read, CALLER, made.run_id, step_id)
    assert (explanation.step.step_id, explanation.step.output, explanation.step.attempts) == (step_id, None, ())
    return list(explanation.text)


async def test_change_request_reaches_a_seed(world: World) -> None:
    """A seed's explanation says where its input changed, from what to what, and that the change request did it."""
    base = await play(world, await world.create(campaign(), {"brief": "b", "style": "energetic"}), CALM)
    update = await world.create(
        campaign(), {"brief": "b", "style": "epic"}, base=base, reused=await reuse(world, base, "plan")
    )
    await replan(world, update, {"music": PlanReason.SEED, "mix": PlanReason.DOWNSTREAM})
    await play(world, update, replace(CALM, outputs={"music": {"of": "epic music"}}))

    music = await told(world, update, "music")
    assert music[0] == (
        'music was executed because its input changed at /style: "energetic" -> "epic", '
        "which comes from the change request at /style."
    )
    assert music[1] == "Also, the change request audio.update names it."
    assert music[2] == "Cache miss: the cache holds outputs of this step, but none of this input."
    mix = await told(world, update, "mix")
    assert mix[:2] == [
        'mix was executed because its input changed at /of: "music" -> "epic music", '
        "which comes from the output of music.",
        "Cache miss: the cache holds outputs of this step, but none of this input.",
    ]
    assert (await told(world, update, "plan"))[0] == (
        f"plan was reused from base run {base.run_id}: the change request audio.update does not reach it."
    )


async def test_early_cutoff_names_who_executed_in_vain(world: World) -> None:
    """A reused step downstream of one that executed says that it gave the same output."""
    base = await play(world, await world.create(campaign(), {"brief": "b", "style": "energetic"}), CALM)
    update = await world.create(
        campaign(), {"brief": "b", "style": "epic"}, base=base, reused=await reuse(world, base, "plan", "mix")
    )
    await replan(world, update, {"music": PlanReason.SEED, "mix": PlanReason.DOWNSTREAM})
    await play(world, update, CALM)
    assert await told(world, update, "mix") == [
        f"mix was reused from base run {base.run_id}: its input is the same as there.",
        "music executed again and gave the same output as before (early cutoff).",
        "It was looked at because it depends on music, which the change request audio.update reaches.",
    ]


async def test_miss_names_the_nearest_earlier_success(world: World) -> None:
    """A miss for a changed input names the latest run before it and the pointers that differ, also in ListSteps."""
    await play(world, await world.create(campaign(), {"brief": "b", "style": "sad"}), CALM)
    near = await play(world, await world.create(campaign(), {"brief": "b", "style": "energetic"}), CALM)
    made = await play(world, await world.create(campaign(), {"brief": "b", "style": "epic"}), CALM)
    await play(world, await world.create(campaign(), {"brief": "b", "style": "late"}), CALM)

    explanation = await explain_step(world.read, CALLER, made.run_id, "music")
    assert explanation.step.cache is not None
    assert (explanation.step.cache.nearest_run_id, explanation.step.cache.changed_pointers) == (
        near.run_id,
        ("/style",),
    )
    assert list(explanation.text)[:4] == [
        "music was executed because the run is an initial one, with no base run to build on.",
        "Cache miss: the cache holds outputs of this step, but none of this input.",
        f"The nearest earlier success is that of run {near.run_id}:",
        'its input differs at /style: "energetic" -> "epic", which comes from the trigger payload at /style.',
    ]
    page = await list_steps(world.read, CALLER, ListStepsRequest(run_id=made.run_id, is_full=True))
    music = page.steps[1]
    assert music.cache == explanation.step.cache
    # plan's and mix's inputs never changed: no success with another input to be compared with
    assert [step.cache and step.cache.nearest_run_id for step in page.steps] == [None, near.run_id, None]
    basic = await list_steps(world.read, CALLER, ListStepsRequest(run_id=made.run_id))
    assert basic.steps[1].cache is not None and basic.steps[1].cache.nearest_run_id is None


async def test_a_page_ends_before_it_is_too_much_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FULL page ends before more misses than it completes; the next goes on there, and each miss is completed."""
    near = await play(world, await world.create(campaign(), {"brief": "a", "style": "sad"}), CALM)
    other = Script(outputs={"plan": {"mood": "wild"}, "music": {"of": "noise"}})
    made = await play(world, await world.create(campaign(), {"brief": "b", "style": "epic"}), other)
    monkeypatch.setattr(list_steps_module, "MISSES_AT_ONCE_MAX", 2)
    pages, token = [], ""
    while True:
        request = ListStepsRequest(run_id=made.run_id, is_full=True, page_token=token)
        page = await list_steps(world.read, CALLER, request)
        pages.append([step.step_id for step in page.steps])
        assert {step.cache and step.cache.nearest_run_id for step in page.steps} == {near.run_id}
        if not (token := page.next_page_token):
            break
    assert pages == [["plan", "music"], ["mix"]]


async def test_nearest_success_of_others_is_never_shown(world: World) -> None:
    """Runs of another tenant or workflow, and those that ended later, are nobody's nearest success."""
    for change in ("tenant = 'other'", "workflow_name = 'another'"):
        other = await play(world, await world.create(campaign(), {"brief": "b", "style": "x"}), CALM)
        await world.database.fetch(f"UPDATE runs SET {change} WHERE run = $1", other.key)
    late = await play(world, await world.create(campaign(), {"brief": "b", "style": "late"}), CALM)
    made = await play(world, await world.create(campaign(), {"brief": "b", "style": "epic"}), CALM)
    await world.database.fetch("UPDATE step_results SET ended_at = now() + interval '1 h' WHERE run = $1", late.key)
    explanation = await explain_step(world.read, CALLER, made.run_id, "music")
    assert explanation.step.cache is not None
    assert (explanation.step.cache.nearest_run_id, explanation.step.cache.changed_pointers) == (None, ())


async def test_another_version_of_the_workflow(world: World) -> None:
    """Against a base of another version the explanation names both and blames the definition where that changed."""
    base = await play(world, await world.create(campaign(), {"brief": "b", "style": "energetic"}), CALM)
    newer = campaign("2.0.0", style="trigger.style + '!'")
    update = await world.create(newer, {"brief": "b", "style": "energetic"}, base=base)
    await replan(world, update, {"plan": PlanReason.SEED, "music": PlanReason.DEFINITION_CHANGED})
    await play(world, update, CALM)
    assert (await told(world, update, "music"))[:2] == [
        "music was executed because version 2.0.0 defines it differently "
        f"from version 1.0.0 of base run {base.run_id}.",
        'Also, its input changed at /style: "energetic" -> "energetic!", which comes from the workflow\'s definition.',
    ]


async def test_new_cache_version_of_the_skill(world: World) -> None:
    """With the same input as the base's the cache version of the skill is the reason."""
    payload = {"brief": "b", "style": "energetic"}
    base = await play(world, await world.create(campaign(), payload), CALM)
    update = await world.create(campaign(), payload, base=base, reused=await reuse(world, base, "plan", "mix"))
    await replan(world, update, {"music": PlanReason.SEED})
    await play(world, update, replace(CALM, cache_versions={"music": "2"}))
    assert (await told(world, update, "music"))[0] == (
        "music was executed because the cache version of its skill changed: 1 -> 2."
    )


async def test_steps_on_their_way(world: World) -> None:
    """Waiting, running and retried steps say for what, since when and what went wrong before."""
    made = await world.create(diamond())
    assert (await told(world, made, "plan"))[0].startswith("plan has been ready since 20")
    (plan,) = await world.lease()
    assert (await told(world, made, "plan"))[0].endswith("Z: attempt 1 of 3.")
    assert await told(world, made, "mix") == ["mix waits for music (pending) and art (pending)."]
    await world.queue.hold(world.engine, plan)
    assert (await told(world, made, "plan"))[0].startswith("plan waits for a free slot of its skill plan.make since 20")
    music, art = await world.complete(world.executed(plan), capacity=2)
    await world.complete(world.attempt_failed(music, delay_ms=60_000), capacity=0)
    retried = await told(world, made, "music")
    assert retried[0].startswith("music waits until 20")
    assert retried[0].endswith("for attempt 2 of 3.")
    assert retried[1].startswith("Attempt 1 failed after ")
    assert retried[1].endswith(" with SKILL_TIMEOUT: try 1.")
    await world.complete(world.failed(art))
    assert (await told(world, made, "art"))[0] == "art failed at attempt 1 of 3 with SKILL_FAILED: no."
    assert await told(world, made, "mix") == ["mix was cancelled because art of the run failed."]


async def test_cancelled_with_its_run(world: World) -> None:
    """A step that was running when its run was cancelled says so with the caller's reason."""
    made = await world.create(diamond())
    await world.lease()
    await world.store.cancel(CALLER.tenant, made.run_id, "ann", "wrong brief")
    assert await told(world, made, "plan") == [
        "plan was cancelled with its run: wrong brief.",
        "It had begun attempt 1 of 3.",
    ]


async def test_refusals(world: World) -> None:
    """Another tenant's run, an unknown step and a caller without the scope are refused."""
    made = await world.create(diamond())
    for caller, run_id, step_id, reason in (
        (STRANGER, made.run_id, "plan", "RUN_NOT_FOUND"),
        (CALLER, str(uuid4()), "plan", "RUN_NOT_FOUND"),
        (CALLER, made.run_id, "nope", "STEP_NOT_FOUND"),
    ):
        with pytest.raises(NotFoundError) as refused:
            await explain_step(world.read, caller, run_id, step_id)
        assert refused.value.reason == reason
    with pytest.raises(ScopeRequiredError):
        await explain_step(world.read, replace(CALLER, scopes=frozenset()), made.run_id, "plan")


async def test_what_is_gone_is_left_out(world: World) -> None:
    """Without the base's outputs the explanation does without values; it never fails."""
    base = await play(world, await world.create(campaign(), {"brief": "b", "style": "energetic"}), CALM)
    update = await world.create(
        campaign(), {"brief": "b", "style": "epic"}, base=base, reused=await reuse(world, base, "plan")
    )
    await replan(world, update, {"music": PlanReason.SEED, "mix": PlanReason.DOWNSTREAM})
    await play(world, update, CALM)
    await world.database.fetch("DELETE FROM outputs")
    assert (await told(world, update, "music"))[0] == (
        "music was executed because the change request audio.update names it."
    )
    await world.database.fetch("DELETE FROM runs WHERE run = $1", base.key)
    explanation = await explain_step(world.read, CALLER, update.run_id, "music")
    assert explanation.step.status is StepStatus.COMPLETED
