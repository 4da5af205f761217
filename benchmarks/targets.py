"""What each figure should be: what it must reach, and what is aimed at."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.figures import Figure, shown, with_spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is asked of one figure.

    Attributes:
        row: what people call it.
        table: where it is measured.
        work: of the figure.
        what: of the figure.
        must: the bound it has to keep; None: none.
        goal: the bound that is aimed at; None: none.
        is_least: whether the bounds are the least value; otherwise they are the greatest.
    """

    row: str
    table: str
    work: str
    what: str
    must: float | None = None
    goal: float | None = None
    is_least: bool = False

    def cells(self, figures: Mapping[tuple[str, str], Figure]) -> Sequence[str]:
        """The row of a table: what was measured, what was asked, and whether that is kept."""
        figure = figures.get((self.work, self.what))
        unit = f" {figure.unit}" if figure else ""
        measured = f"{with_spread(figure.values)}{unit}" if figure else "not measured"
        return (self.row, measured, self._bound(self.must), self._bound(self.goal), self._verdict(figure))

    def _bound(self, bound: float | None) -> str:
        return "" if bound is None else f"{'≥' if self.is_least else '≤'} {shown(bound)}"

    def _verdict(self, figure: Figure | None) -> str:
        if figure is None:
            return ""
        if self.goal is not None and self._keeps(figure.median, self.goal):
            return "goal"
        if self.must is not None and self._keeps(figure.median, self.must):
            return "must"
        return "no" if self.must is not None else "not the goal"

    def _keeps(self, value: float, bound: float) -> bool:
        return value >= bound if self.is_least else value <= bound


def by_name(figures: Iterable[Figure]) -> dict[tuple[str, str], Figure]:
    """The figures by work and what."""
    return {(each.work, each.what): each for each in figures}


_CALLS: Final = "500 calls of 60 s in flight"
_REBUILD: Final = "10,000 nodes"

TARGETS: Final[Sequence[Target]] = (
    Target(row="w1 to BullMQ, same run", table="peers", work="w1, N = 1000", what="RunEngine to BullMQ",
           must=2, goal=4, is_least=True),
    Target(row="w1 to Restate, same run", table="peers", work="w1, N = 1000", what="RunEngine to Restate",
           must=2.5, goal=5, is_least=True),
    Target(row="w1, N = 1000", table="engine", work="w1, N = 1000", what="rate", must=10_000, goal=20_000,
           is_least=True),
    Target(row="w1, two engines to one", table="engine", work="two engines, N = 1000", what="to one engine",
           must=1.3, goal=1.6, is_least=True),
    Target(row="one20, p50", table="engine", work="one20", what="p50", must=8, goal=4),
    Target(row="w2", table="engine", work="w2", what="duration", must=0.14, goal=0.06),
    Target(row="w3", table="engine", work="w3", what="duration", must=0.2, goal=0.1),
    Target(row="w4, start calls through gRPC", table="engine", work="w4, 32 callers, N = 1000", what="rate",
           must=2000, goal=4000, is_least=True),
    Target(row="w4, p50 at 32 callers", table="engine", work="w4, 32 callers, N = 1000", what="p50", must=10),
    Target(row="remote skills to the floor with gRPC, same run", table="peers", work="remote, N = 200",
           what="RunEngine to floor with gRPC", must=0.8, is_least=True),
    Target(row="remote skills to graphile-worker, same run", table="peers", work="remote, N = 200",
           what="RunEngine to graphile-worker", must=1, is_least=True),
    Target(row="remote skills to DBOS, same run", table="peers", work="remote, N = 200", what="RunEngine to DBOS",
           must=1, is_least=True),
    Target(row="remote skills to Restate, same run", table="peers", work="remote, N = 200",
           what="RunEngine to Restate", goal=2, is_least=True),
    Target(row="a step with a hot hit, batched", table="cachehit", work="1,000 at once", what="hot hit",
           must=1000, goal=200),
    Target(row="a step with a cold hit, batched", table="cachehit", work="1,000 at once", what="cold hit",
           must=5000, goal=1000),
    Target(row="plan of an update of 10,000 steps", table="rebuild", work=_REBUILD,
           what="plan of one changed leaf, in the engine", must=250, goal=50),
    Target(row="rebuild of 10,000 steps, one leaf changed", table="rebuild", work=_REBUILD,
           what="one leaf changed, call to finished", must=300, goal=65),
    Target(row="watch, commit to client, p50", table="watch", work="1 watcher", what="commit to client, p50",
           must=5, goal=2),
    Target(row="watch, commit to client, p99", table="watch", work="1 watcher", what="commit to client, p99",
           must=20, goal=8),
    Target(row="commit to visible in a browser, p50", table="browser", work="connect", what="commit to visible, p50",
           must=100),
    Target(row="commit to visible in a browser, p99", table="browser", work="connect", what="commit to visible, p99",
           goal=100),
    Target(row="5,000 watchers, memory of each", table="watch", work="5,000 watchers",
           what="memory of a waiting watcher", must=25),
    Target(row="5,000 watchers, growth of each", table="watch", work="5,000 watchers",
           what="growth while events are delivered, a watcher", must=1),
    Target(row="5,000 watchers, delivered", table="watch", work="5,000 watchers", what="events delivered",
           goal=100_000, is_least=True),
    Target(row="w1 after 5 M finished steps to none", table="growth", work="5,000,000 finished steps to 0",
           what="w1, N = 200", must=0.9, goal=1, is_least=True),
    Target(row="w1 after 10 min under an open snapshot", table="growth", work="600 s under an open snapshot",
           what="the last tenth to the first", must=0.9, goal=1, is_least=True),
    Target(row="memory of an idle engine", table="memory", work="engine", what="idle", must=120),
    Target(row="memory with 1,000 runs and 500 watchers", table="memory", work="engine",
           what="1,000 runs in flight and 500 watchers, at most", must=300),
    Target(row="calls paid twice, every engine restarted", table="money", work=f"every engine restarted, {_CALLS}",
           what="calls paid twice", must=0),
    Target(row="calls paid twice, every engine killed", table="money", work=f"every engine killed, {_CALLS}",
           what="calls paid twice", goal=0),
    Target(row="`make demo` to the first running step", table="demo", work="make demo from a fresh clone",
           what="until the first step runs", must=180, goal=60),
)  # fmt: skip
