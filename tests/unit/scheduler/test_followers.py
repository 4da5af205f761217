"""Steps whose flight ends whenever they are about to wait for it."""

from dataclasses import replace
from time import monotonic

import pytest

from runengine_server.domain.states import RunStatus

from .stage import BY_SIGNAL, stage, step, workflow

pytestmark = pytest.mark.anyio


async def test_asking_again_takes_ever_longer_and_stops_nobody() -> None:
    """Told four times to ask again a step does, with pauses, while the engine's only pipeline serves other runs."""
    async with stage(replace(BY_SIGNAL, pipelines=1)) as on:
        late = await on.start(workflow(step("a"), name="late"), announce=False)
        on.cache.flights = on.queue.ending_flights = 4
        begun_at = monotonic()
        on.scheduler.wake()
        await on.bell.until(lambda: on.queue.ending_flights <= 2)
        other = await on.start(workflow(step("b", is_cached=False), name="other"))
        assert await on.ended(other) == [RunStatus.COMPLETED]
        assert not on.skills.called("a")
        assert await on.ended(late) == [RunStatus.COMPLETED]
        assert monotonic() - begun_at >= 0.05 + 0.1 + 0.2
        assert len(on.skills.called("a")) == 1
