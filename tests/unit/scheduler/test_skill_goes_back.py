"""A plan is kept when, before its steps run, a skill goes back to the version whose entries the plan turned down."""

import pytest

from runengine_server.domain.states import CacheMode, RunStatus, StepStatus

from .stage import Stage, chain, stage

pytestmark = pytest.mark.anyio

C, S = StepStatus.COMPLETED, StepStatus.SKIPPED


async def test_what_was_planned_to_execute_does() -> None:
    """Entries from before the plan stay turned down for the steps that it executes; what it left open may use them."""
    async with stage() as on:
        await on.ended(await on.start(chain(), {"x": 1}))
        late = await _planned_under_another_version(on)
        on.scheduler.wake()
        assert await on.ended(late) == [RunStatus.COMPLETED]
        assert on.statuses(late) == {"a": C, "b": S, "c": S}
        assert len(on.skills.called("a")) == 2


async def test_what_was_filed_since_is_used() -> None:
    """An entry that another run files after the plan serves its executed steps, as any entry would."""
    async with stage() as on:
        await on.ended(await on.start(chain(), {"x": 1}))
        held = on.skills.hold("a")
        refresh = await on.start(chain(), {"x": 1}, mode=CacheMode.REFRESH)
        await on.bell.until(lambda: len(on.skills.called("a")) == 2)
        late = await _planned_under_another_version(on)
        held.set()
        await on.ended(refresh)
        on.scheduler.wake()
        assert await on.ended(late) == [RunStatus.COMPLETED]
        assert on.statuses(late) == {"a": S, "b": S, "c": S}
        assert len(on.skills.called("a")) == 2


async def _planned_under_another_version(on: Stage) -> int:
    """A run of which nobody has heard yet, planned while the skills were of a version that has filed nothing."""
    on.skills.cache_version = "2"
    late = await on.start(chain(), {"x": 1}, announce=False)
    on.skills.cache_version = "1"
    return late
