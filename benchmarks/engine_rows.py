"""The engine's repeats as they are kept (`Measurement.row`): a table for people, and figures that targets are for."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any, Final

from benchmarks.figures import Figure, markdown, with_spread

HEADINGS: Final = (
    "work", "N", "repeats", "steps/s: median (min–max)", "seconds", "p50 ms (min–max)", "p99 ms",
    "CPU µs a step: engine", "PostgreSQL", "Valkey", "skills", "load", "yardstick ms",
)  # fmt: skip

_PARTS: Final = ("engine", "postgres", "valkey", "skills")
_FIGURES: Final = {"rate": ("steps_per_s", "steps/s"), "p50": ("p50_ms", "ms"), "duration": ("seconds", "s")}
# Their N is always the same.
_FIXED: Final = ("one20", "w2", "w3")

Row = Mapping[str, Any]


def engine_table(rows: Sequence[Row]) -> str:
    """One row for each work and N, in the order they first came in."""
    return markdown([HEADINGS, *(_cells(repeats) for repeats in _repeats(rows))])


def engine_figures(rows: Sequence[Row]) -> list[Figure]:
    """Rate, median latency and duration of each work; of two engines also what they are to one, round by round."""
    found = []
    one = {(row[0]["work"], row[0]["n"]): [each["steps_per_s"] for each in row] for row in _repeats(rows)}
    for repeats in _repeats(rows):
        work, n = repeats[0]["work"], repeats[0]["n"]
        name = work if work in _FIXED else f"{work}, N = {n}"
        for what, (key, unit) in _FIGURES.items():
            found.append(Figure(work=name, what=what, unit=unit, values=[each[key] for each in repeats]))
        if work == "two engines" and ("w1", n) in one:
            ratios = [two / single for two, single in zip(one[work, n], one["w1", n], strict=True)]
            found.append(Figure(work=name, what="to one engine", unit="×", values=ratios))
    return found


def _repeats(rows: Sequence[Row]) -> list[list[Row]]:
    first: dict[tuple[str, int], int] = {}
    for each in rows:
        first.setdefault((each["work"], each["n"]), len(first))
    ordered = sorted(rows, key=lambda each: first[each["work"], each["n"]])
    return [list(group) for _, group in groupby(ordered, key=lambda each: (each["work"], each["n"]))]


def _cells(repeats: Sequence[Row]) -> list[str]:
    def values(key: str) -> list[float]:
        return [each[key] for each in repeats]

    cpus = [values(f"{part}_us_per_step") for part in _PARTS]
    return [
        repeats[0]["work"],
        str(repeats[0]["n"]),
        str(len(repeats)),
        with_spread(values("steps_per_s")),
        f"{median(values('seconds')):.3f}",
        with_spread(values("p50_ms")),
        f"{median(values('p99_ms')):.1f}",
        *(f"{median(cpu):.0f}" if any(cpu) else "–" for cpu in cpus),
        f"{median(values('load')):.1f}",
        f"{median(values('yardstick_ms')):.2f}",
    ]
