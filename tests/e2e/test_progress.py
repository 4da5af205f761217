"""What a running skill reports is seen through every server, whichever runs the step."""

import anyio
import pytest

from runengine_client import RunEngineClient, RunEvent, WatchOptions
from runengine_client.types import StepProgress

from ..support.engine_process import EngineProcess, EngineSettings
from ..support.skill_server_process import SkillServerProcess
from .workflows import gated

pytestmark = pytest.mark.anyio


async def first_progress(client: RunEngineClient, run_id: str) -> StepProgress:
    """What a watcher is told of the first step, by an event or at once."""
    async for item in client.watch(run_id, options=WatchOptions(include_progress=True)):
        if isinstance(item, RunEvent) and isinstance(item.detail, StepProgress):
            assert item.step_id == "wait"
            return item.detail
    raise AssertionError("the run ended without progress")


async def latest_progress(client: RunEngineClient, run_id: str) -> StepProgress | None:
    steps = [step async for step in client.list_steps(run_id)]
    return steps[0].progress


async def test_progress_is_seen_through_every_server(
    engine: EngineProcess, engine_settings: EngineSettings, skills: SkillServerProcess
) -> None:
    """Watchers and readers of either server are told how far the step is."""
    with EngineProcess(engine_settings, "second") as second:
        async with engine.client() as here, second.client() as there:
            await here.register_workflow(gated())
            handle = await here.start("gated", {"gate": "far"})
            with anyio.fail_after(20):
                for client in (here, there):
                    told = await first_progress(client, handle.id)
                    assert (told.fraction, told.message) == (0.5, "waiting for far")
                    assert await latest_progress(client, handle.id) == told
            skills.open_gate("far")
            await there.run(handle.id).result()
