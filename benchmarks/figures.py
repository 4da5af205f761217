"""Figures that are no rates of steps: collected sample by sample, shown as medians with their spread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Say = Callable[[str], None]

HEADINGS = ("work", "what", "median (min–max)", "unit", "samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Everything measured of one thing.

    Attributes:
        work: the table's part it belongs to.
        what: was measured, in words.
        unit: of the values.
        values: one of each repeat, in order.
    """

    work: str
    what: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """Of the repeats."""
        return median(self.values)


@dataclass(slots=True)
class Figures:
    """What a table has measured so far."""

    say: Say
    _values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def add(self, work: str, what: str, unit: str, value: float) -> None:
        """One more sample."""
        self.say(f"{work}: {what}: {shown(value)} {unit}")
        self._values.setdefault((work, what, unit), []).append(value)

    def all(self) -> list[Figure]:
        """In the order in which they first came."""
        return [
            Figure(work=work, what=what, unit=unit, values=values)
            for (work, what, unit), values in self._values.items()
        ]

    def rows(self) -> list[dict[str, object]]:
        """For JSON."""
        return [
            {
                "work": each.work,
                "what": each.what,
                "unit": each.unit,
                "median": rounded(each.median),
                "values": [rounded(value) for value in each.values],
            }
            for each in self.all()
        ]

    def text(self) -> str:
        """For people."""
        return figure_table(self.all())


def figure_of(row: Mapping[str, object]) -> Figure:
    """The figure that `rows` wrote."""
    values = row["values"]
    assert isinstance(values, list)
    return Figure(work=str(row["work"]), what=str(row["what"]), unit=str(row["unit"]), values=values)


def figure_table(figures: Sequence[Figure]) -> str:
    """One Markdown row for each."""
    rows = [(each.work, each.what, with_spread(each.values), each.unit, str(len(each.values))) for each in figures]
    return markdown([HEADINGS, *rows])


def figure_matrix(figures: Sequence[Figure]) -> str:
    """One Markdown row for each thing that was measured, one column for each work; both in the order they came in."""
    works = list(dict.fromkeys((each.work, each.unit) for each in figures))
    cells = {(each.what, each.work, each.unit): with_spread(each.values) for each in figures}
    rows = [
        (what, *(cells.get((what, *work), "–") for work in works))
        for what in dict.fromkeys(each.what for each in figures)
    ]
    return markdown([("", *(f"{work}, {unit}" for work, unit in works)), *rows])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its heading."""
    heading, *body = rows
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *body))


def with_spread(values: Sequence[float]) -> str:
    """The median, and least and greatest where there are several."""
    middle = shown(median(values))
    return middle if len(values) == 1 else f"{middle} ({shown(min(values))}–{shown(max(values))})"


def shown(value: float) -> str:
    """Three digits, or all of a large number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return digits.rstrip("0").rstrip(".")


def rounded(value: float) -> float:
    """To what is worth keeping in a file."""
    return round(value, 4)
