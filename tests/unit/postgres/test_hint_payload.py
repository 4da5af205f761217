"""What notifications say."""

from datetime import UTC, datetime

import pytest

from runengine_server.adapters.postgres.hint_payload import (
    PAYLOAD_BYTES_MAX,
    PROGRESS_MAX,
    RUNS_MAX,
    Hints,
    decode_hints,
    encode_hints,
)
from runengine_server.adapters.postgres.progress_hints import ProgressHint
from runengine_server.domain.events import StepProgress
from runengine_server.domain.ids import RunKey, StepId


def _progress(run: int, message: str = "", fraction: float = 0.5) -> ProgressHint:
    progress = StepProgress(fraction=fraction, message=message, reported_at=datetime(2026, 1, 1, 1, 1, 1, 7, UTC))
    return ProgressHint(run=RunKey(run), step_id=StepId("step"), attempt=2, progress=progress)


def _together(hints: Hints) -> tuple[Hints, list[str]]:
    payloads = list(encode_hints(hints))
    heard = Hints()
    for payload in payloads:
        heard.merge(decode_hints(payload))
    return heard, payloads


def test_round_trip() -> None:
    """What is encoded is what is heard, in as many payloads as PostgreSQL's limit needs."""
    many = {RunKey(10**15 + n) for n in range(2000)}
    hints = Hints(events=set(many), cancelled={RunKey(1), *list(many)[:800]}, is_ready=True, has_permits=True)
    heard, payloads = _together(hints)
    assert heard == hints
    assert len(payloads) > 2
    assert max(map(len, payloads)) < PAYLOAD_BYTES_MAX + 20 < 8000
    assert list(encode_hints(Hints())) == []
    assert not Hints()


def test_bounded() -> None:
    """More runs than worth naming become all runs, and stay so when merged."""
    hints = Hints()
    hints.add_events(RunKey(n) for n in range(RUNS_MAX + 1))
    assert hints.has_many
    assert not hints.events
    assert list(encode_hints(hints)) == ["e*"]
    other = Hints(events={RunKey(1)})
    other.merge(hints)
    assert other == Hints(has_many=True)


def test_unknown_parts() -> None:
    """Parts that a later version may add, and nonsense, are ignored."""
    assert decode_hints("p") == Hints(has_permits=True)
    assert decode_hints("zfoo;e1,x,2;;r") == Hints(events={RunKey(1), RunKey(2)}, is_ready=True)


def test_progress() -> None:
    """Whatever a skill says arrives, in payloads that PostgreSQL takes and older versions ignore as a whole."""
    hints = Hints()
    for run, message in enumerate(["", "half;e*;c1;r", '"]\n\0', "ü€😀" * 120, *["x" * 500] * 40]):
        hints.add_progress(_progress(run, message))
    hints.add_progress(ProgressHint(run=RunKey(99), step_id=StepId("step"), attempt=0, progress=None))
    heard, payloads = _together(hints)
    assert heard == hints
    assert len(payloads) > 2
    assert max(len(payload.encode()) for payload in payloads) < 8000
    assert not any(";" in payload or not payload.startswith("g") for payload in payloads)


def test_progress_is_bounded_and_the_latest_wins() -> None:
    """Beyond the bound further steps are left out; of a step the newer report stays, also when merged."""
    hints = Hints()
    for run in range(PROGRESS_MAX + 1):
        hints.add_progress(_progress(run, fraction=0.1))
    assert len(hints.progress) == PROGRESS_MAX
    newer = Hints()
    newer.add_progress(_progress(0, fraction=0.2))
    newer.add_progress(_progress(0, fraction=0.3))
    newer.merge(hints)
    assert newer.progress[RunKey(0), StepId("step")] == _progress(0, fraction=0.3)


@pytest.mark.parametrize(
    "payload", ["g", "g{", "g[1]", "g[[]]", 'g[[1,"s",1,"x","m",1]]', 'g[[1,"s",1,0.5,"m",1e300]]']
)
def test_malformed_progress(payload: str) -> None:
    """What is no progress is ignored."""
    assert decode_hints(payload) == Hints()
