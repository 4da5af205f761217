"""The progress board."""

from datetime import UTC, datetime

from runengine_server.domain.events import StepProgress
from runengine_server.domain.ids import RunKey, StepId
from runengine_server.service.progress_board import InMemoryProgressBoard


def _at(fraction: float) -> StepProgress:
    return StepProgress(fraction=fraction, message="", reported_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_latest_wins() -> None:
    """Of several reports only the latest is told, once, to who asks for what is new."""
    board = InMemoryProgressBoard()
    run, step = RunKey(1), StepId("s")
    board.report(run, step, _at(0.1), attempt=1)
    board.report(run, step, _at(0.2), attempt=2)
    board.report(RunKey(2), step, _at(0.9))
    version, events = board.since(run, 0)
    assert [(event.detail, event.attempt, event.sequence) for event in events] == [(_at(0.2), 2, 0)]
    assert board.since(run, version) == (version, [])
    board.report(run, step, _at(0.3))
    assert [event.detail for event in board.since(run, version)[1]] == [_at(0.3)]
    board.clear(run, step)
    assert board.latest(run) == {}


def test_bounded() -> None:
    """Beyond its bounds the board forgets what was silent for longest."""
    board = InMemoryProgressBoard(runs_max=2, steps_per_run_max=1)
    for run in (1, 2, 1, 3):
        board.report(RunKey(run), StepId("s"), _at(0.1))
    assert board.latest(RunKey(2)) == {}
    assert board.latest(RunKey(1)) == {"s": _at(0.1)}
    board.report(RunKey(1), StepId("t"), _at(0.2))
    assert board.latest(RunKey(1)) == {"t": _at(0.2)}
