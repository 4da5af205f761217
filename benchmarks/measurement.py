"""What was measured, and how it is shown: every repeat in JSON, their medians and spread as a Markdown table."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from benchmarks.cpu import CpuTimes

HEADINGS = (
    "work", "N", "repeats", "steps/s: median (min–max)", "seconds", "p50 ms (min–max)", "p99 ms",
    "CPU µs a step: engine", "PostgreSQL", "Valkey", "skills", "load", "yardstick ms",
)  # fmt: skip


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
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1e3

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


def table(measurements: Sequence[Measurement]) -> str:
    """One row for each work and N, in the order they first came in."""
    first: dict[tuple[str, int], int] = {}
    for each in measurements:
        first.setdefault((each.work, each.n), len(first))
    ordered = sorted(measurements, key=lambda each: first[each.work, each.n])
    rows = [_cells(list(group)) for _, group in groupby(ordered, key=lambda each: (each.work, each.n))]
    rule = ["---"] * len(HEADINGS)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADINGS, rule, *rows))


def _cells(repeats: Sequence[Measurement]) -> list[str]:
    rates = [each.rate for each in repeats]
    p50s = [each.latency_ms(50) for each in repeats]
    cpus = [[getattr(each.cpu, part) / each.steps * 1e6 for each in repeats] for part in CpuTimes.__slots__]
    return [
        repeats[0].work,
        str(repeats[0].n),
        str(len(repeats)),
        f"{median(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f})",
        f"{median(each.seconds for each in repeats):.3f}",
        f"{median(p50s):.1f} ({min(p50s):.1f}–{max(p50s):.1f})",
        f"{median(each.latency_ms(99) for each in repeats):.1f}",
        *(f"{median(cpu):.0f}" if any(cpu) else "–" for cpu in cpus),
        f"{median(each.load for each in repeats):.1f}",
        f"{median(each.yardstick_s for each in repeats) * 1e3:.2f}",
    ]
