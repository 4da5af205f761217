"""Random workflows, changes and skills through production code from request to result: runs stay within their plans.

Without faults and one request after the other, so that every plan is exactly what SPEC §4 makes of what is stored.
"""

from random import Random

from hypothesis import event, given
from hypothesis import strategies as st

from runengine_server.domain.states import RunStatus

from ..simulation.skills import SkillFaults
from ..simulation.story import Setting, Story
from ..simulation.virtual_loop import run_virtually
from ..support.random_workflows import random_model, random_next_version

REQUESTS_MAX = 6
STEPS_MAX = 8

randoms = st.randoms(use_true_random=False)


@given(randoms, st.integers(0, 2**32), st.integers(1, REQUESTS_MAX), st.sampled_from([0.0, 0.0, 0.1]))
def test_runs_stay_within_their_plans(wishes: Random, seed: int, requests: int, failing: float) -> None:
    """One after the other, runs, updates of updates, retries and new versions keep every promise of SPEC §4."""
    setting = Setting(faults=SkillFaults(final=failing), redeployments=0, skill_s=0.1, delay_s=0.0)
    story = run_virtually(Random(seed), _chain(wishes, Random(seed), setting, requests))
    wrong = story.verdict()
    assert not wrong, "\n".join([*wrong, "", *story.world.trace.lines])
    for run in story.world.tables.runs.values():
        for step in run.new.plan:
            event(f"{step.action.name} {step.reason.name}")


@given(randoms, st.integers(0, 2**32))
def test_concurrent_runs_stay_within_their_plans(wishes: Random, seed: int) -> None:
    """Several at once on two engines, with skills that fail, are slow and are redeployed, keep the same promises."""
    setting = Setting(
        engines=2,
        clients=3,
        requests=2,
        faults=SkillFaults(retryable=0.1, final=0.02),
        redeployments=2,
        skill_s=3.0,
    )
    story = run_virtually(Random(seed), _at_once(wishes, Random(seed), setting))
    wrong = story.verdict()
    assert not wrong, "\n".join([*wrong, "", *story.world.trace.lines])


async def _chain(wishes: Random, chance: Random, setting: Setting, requests: int) -> Story:
    versions = [random_model(wishes, steps_max=STEPS_MAX)]
    if wishes.random() < 0.5:
        versions.append(random_next_version(wishes, versions[0]))
    story = Story(chance, versions, setting, wishes=wishes)
    async with story.running():
        await story.ready()
        (engine,) = story.fleet
        await story.clients.trigger(engine)
        for _ in range(requests - 1):
            await story.quiet()
            bases = story.world.ended_runs(RunStatus.COMPLETED)
            unfinished = story.world.ended_runs(RunStatus.FAILED)
            if unfinished and wishes.random() < 0.5:
                await story.clients.retry(engine, wishes.choice(unfinished))
            elif bases and wishes.random() < 0.9:
                await story.clients.update(engine, wishes.choice(bases))
            else:
                await story.clients.trigger(engine)
    return story


async def _at_once(wishes: Random, chance: Random, setting: Setting) -> Story:
    story = Story(chance, [random_model(wishes, steps_max=STEPS_MAX)], setting, wishes=wishes)
    await story.play()
    return story
