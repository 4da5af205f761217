"""A run ends when its deadline comes, not at the next look that any engine takes anyway."""

import anyio
import pytest

from runengine_server.domain.states import RunStatus

from .stage import Stage, stage, step, workflow

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_created_here", [True, False])
async def test_a_run_ends_at_its_deadline(*, is_created_here: bool) -> None:
    """Whoever creates a run waits for its deadline, and every engine for the next that it found when it looked."""
    async with stage(is_running=False) as on:
        on.scheduler._reaper._every_s = 3600.0
        on.skills.hold("a")
        if not is_created_here:
            run = await _start(on, announce=False)
            on.scheduler._reaper.run_created(0.0)  # any reason to look
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.scheduler.run)
            if is_created_here:
                run = await _start(on, announce=True)
            await on.bell.until(lambda: on.skills.running == 1)
            assert await on.ended(run) == [RunStatus.FAILED]
            await on.bell.until(lambda: on.skills.running == 0)
            tasks.cancel_scope.cancel()


async def _start(on: Stage, *, announce: bool) -> int:
    return await on.start(workflow(step("a")), deadline_s=0.3, announce=announce)
