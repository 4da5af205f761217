"""What running skills report, on its way to the other processes: the latest of each step, a few times a second."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from runengine_server.domain.events import RunEvent, StepProgress
from runengine_server.domain.ids import RunKey, StepId
from runengine_server.ports.progress import ProgressBoard

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MESSAGE_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressHint:
    """The latest progress of a running step; None when its attempt has ended."""

    run: RunKey
    step_id: StepId
    attempt: int
    progress: StepProgress | None


class SharedProgressBoard:
    """ProgressBoard that also tells the other processes what is reported here."""

    def __init__(self, board: ProgressBoard, announce: Callable[[ProgressHint], None]) -> None:
        """Keep on `board`, where what others report is to be shown too; `announce` must not block."""
        self._board = board
        self._announce = announce
        self._told: set[tuple[RunKey, StepId]] = set()

    def report(self, run: RunKey, step_id: StepId, progress: StepProgress, *, attempt: int = 0) -> None:
        """See the port."""
        self._board.report(run, step_id, progress, attempt=attempt)
        self._told.add((run, step_id))
        self._announce(ProgressHint(run=run, step_id=step_id, attempt=attempt, progress=progress))

    def clear(self, run: RunKey, step_id: StepId) -> None:
        """See the port."""
        self._board.clear(run, step_id)
        if (run, step_id) in self._told:
            self._told.remove((run, step_id))
            self._announce(ProgressHint(run=run, step_id=step_id, attempt=0, progress=None))

    def latest(self, run: RunKey) -> Mapping[StepId, StepProgress]:
        """See the port."""
        return self._board.latest(run)

    def since(self, run: RunKey, version: int) -> tuple[int, Sequence[RunEvent]]:
        """See the port."""
        return self._board.since(run, version)


def show(board: ProgressBoard, hint: ProgressHint) -> None:
    """What another process reported is on the board."""
    if hint.progress is None:
        board.clear(hint.run, hint.step_id)
    else:
        board.report(hint.run, hint.step_id, hint.progress, attempt=hint.attempt)


def encode_progress(hints: Iterable[ProgressHint], bytes_max: int) -> Iterator[str]:
    """Payloads that together say it: `g` and a JSON array, without `;`, which means something in other payloads."""
    rows: list[str] = []
    length = 3
    for hint in hints:
        row = _row(hint)
        size = len(row.encode()) + 1
        if rows and length + size > bytes_max:
            yield f"g[{','.join(rows)}]"
            rows, length = [], 3
        rows.append(row)
        length += size
    if rows:
        yield f"g[{','.join(rows)}]"


def decode_progress(payload: str) -> list[ProgressHint]:
    """What such a payload says; nothing if it is not one."""
    try:
        return [_hint(*row) for row in orjson.loads(payload[1:])]
    except (ValueError, TypeError, OverflowError):
        return []


def _row(hint: ProgressHint) -> str:
    told = hint.progress
    row: list[object] = [hint.run, hint.step_id, hint.attempt]
    if told is not None:
        message = told.message[:_MESSAGE_CHARACTERS_MAX].encode(errors="replace").decode()
        row += [told.fraction, message, (told.reported_at - _EPOCH) // timedelta(microseconds=1)]
    return orjson.dumps(row).decode().replace(";", "\\u003b")


def _hint(
    run: int, step_id: str, attempt: int, fraction: float = 0.0, message: str = "", reported_at_us: int | None = None
) -> ProgressHint:
    progress = None
    if reported_at_us is not None:
        reported_at = _EPOCH + timedelta(microseconds=reported_at_us)
        progress = StepProgress(fraction=float(fraction), message=str(message), reported_at=reported_at)
    return ProgressHint(run=RunKey(int(run)), step_id=StepId(str(step_id)), attempt=int(attempt), progress=progress)
