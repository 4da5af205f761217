"""Which trace a run is in, for log lines: they know runs by their ids alone."""

from collections import OrderedDict
from typing import Final

from runengine_server.domain.ids import RunId
from runengine_server.domain.trace_context import TraceContext

_RUNS_MAX: Final = 20_000


class TraceIds:
    """Remembers the runs this process met most recently."""

    def __init__(self, runs_max: int = _RUNS_MAX) -> None:
        """Remember at most so many."""
        self._max = runs_max
        self._by_run: OrderedDict[RunId, str] = OrderedDict()

    def put(self, run_id: RunId, trace: TraceContext) -> None:
        """The run is in this trace."""
        self._by_run[run_id] = trace.trace_id
        self._by_run.move_to_end(run_id)
        if len(self._by_run) > self._max:
            self._by_run.popitem(last=False)

    def of(self, run_id: RunId) -> str | None:
        """The trace of a run, 32 hexadecimal digits; None where it is not known."""
        return self._by_run.get(run_id)
