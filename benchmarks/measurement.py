"""One repeat of one piece of work, and what of it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cpu import CpuTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One repeat of one piece of work.

    Attributes:
        work: its name, with the variant if it has several.
        n: runs (calls in w4).
        steps: in all; a call of w4 counts as one.
        seconds: from the first start to the last end.
        latencies_s: of each run from its start call to its end; in w4 of each call.
        cpu: used meanwhile.
        load: the machine's load average over the last minute.
        yardstick_s: CPU time of a piece of Python that is always the same: how slow the processor was just then.
    """

    work: str
    n: int
    steps: int
    seconds: float
    latencies_s: Sequence[float]
    cpu: CpuTimes
    load: float
    yardstick_s: float

    @property
    def rate(self) -> float:
        """Steps in a second."""
        return self.steps / self.seconds

    def latency_ms(self, percent: int) -> float:
        """A percentile of the latencies; the nearest one that was measured."""
        return percentile(self.latencies_s, percent) * 1e3

    def row(self) -> dict[str, object]:
        """For JSON."""
        return {
            "work": self.work,
            "n": self.n,
            "steps": self.steps,
            "seconds": round(self.seconds, 4),
            "steps_per_s": round(self.rate, 1),
            "p50_ms": round(self.latency_ms(50), 2),
            "p99_ms": round(self.latency_ms(99), 2),
            "engine_us_per_step": self._us_per_step(self.cpu.engine),
            "postgres_us_per_step": self._us_per_step(self.cpu.postgres),
            "valkey_us_per_step": self._us_per_step(self.cpu.valkey),
            "skills_us_per_step": self._us_per_step(self.cpu.skills),
            "load": round(self.load, 2),
            "yardstick_ms": round(self.yardstick_s * 1e3, 2),
        }

    def _us_per_step(self, seconds: float) -> float:
        return round(seconds / self.steps * 1e6, 1)


def percentile(values: Sequence[float], percent: int) -> float:
    """The nearest value that was measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
