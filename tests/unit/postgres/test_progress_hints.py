"""The progress board that other processes hear of."""

from datetime import UTC, datetime

from runengine_server.adapters.postgres.progress_hints import ProgressHint, SharedProgressBoard, show
from runengine_server.domain.events import StepProgress
from runengine_server.domain.ids import RunKey, StepId
from runengine_server.service.progress_board import InMemoryProgressBoard

RUN, STEP = RunKey(1), StepId("s")
HALF = StepProgress(fraction=0.5, message="half", reported_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_what_is_reported_here_is_shown_there() -> None:
    """Reports and the end of an attempt reach the other board, attempt included; what nobody reported ends silently."""
    there, told = InMemoryProgressBoard(), list[ProgressHint]()
    here = SharedProgressBoard(InMemoryProgressBoard(), told.append)
    here.clear(RUN, STEP)
    assert told == []
    here.report(RUN, STEP, HALF, attempt=2)
    show(there, told.pop())
    assert there.since(RUN, 0)[1] == here.since(RUN, 0)[1]
    assert there.latest(RUN) == here.latest(RUN) == {STEP: HALF}
    here.clear(RUN, STEP)
    show(there, told.pop())
    assert there.latest(RUN) == here.latest(RUN) == {}
    here.clear(RUN, STEP)
    assert told == []
