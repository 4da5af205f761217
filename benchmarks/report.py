"""Writes the tables of docs/performance.md anew from the figures that were kept; the words around them stay.

A part between `<!-- figures: NAME -->` and `<!-- end of figures -->` is written by this; NAME is a table, or `targets`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.bar_chart import bar_chart
from benchmarks.conditions import REPOSITORY
from benchmarks.engine_rows import engine_figures, engine_table
from benchmarks.figures import Figure, figure_matrix, figure_of, figure_table, markdown
from benchmarks.targets import TARGETS, by_name

RESULTS: Final = Path(__file__).with_name("results")
DOCUMENT: Final = REPOSITORY / "docs" / "performance.md"

_PART: Final = re.compile(r"(<!-- figures: ([a-z0-9]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_RATIO: Final = "×"
_NOT_MEASURED: Final = "Not measured yet."
_CHARTS: Final = {
    "w1.svg": ("w1, N = 200", "steps/s: longer is better"),
    "one20.svg": ("one20", "p50 of a run of 13 steps in ms: shorter is better"),
}

Document = Mapping[str, Any]


def write_report(results: Path = RESULTS, document: Path = DOCUMENT) -> None:
    """Every part of the document shows the figures in the folder; the charts beside it too."""
    measured = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    document.write_text(_PART.sub(lambda part: _written(part, measured), document.read_text()))
    if peers := measured.get("peers"):
        _draw(_figures(peers), document.parent / document.stem)


def _written(part: re.Match[str], measured: Mapping[str, Document]) -> str:
    name = part[2]
    text = _targets(measured) if name == "targets" else _table(measured.get(name))
    return f"{part[1]}\n{text}\n\n{part[3]}"


def _targets(measured: Mapping[str, Document]) -> str:
    found = {name: by_name(_figures(each)) for name, each in measured.items()}
    rows = [target.cells(found.get(target.table, {})) for target in TARGETS]
    return markdown([("work", "measured: median (min–max)", "must", "goal", "kept"), *rows])


def _table(measured: Document | None) -> str:
    if measured is None:
        return _NOT_MEASURED
    facts = "; ".join(f"{name}: {fact}" for name, fact in measured["conditions"].items())
    return f"{_tables(measured)}\n\n`{measured['command']}`, {measured['seconds']} s; {facts}"


def _tables(measured: Document) -> str:
    if _is_engine(measured):
        return engine_table(measured["measurements"])
    figures = _figures(measured)
    if measured["table"] != "peers":
        return figure_table(figures)
    values = figure_matrix([each for each in figures if each.unit != _RATIO])
    ratios = figure_matrix([each for each in figures if each.unit == _RATIO])
    charts = "\n".join(f"![{work}](performance/{name})" for name, (work, _) in _CHARTS.items())
    return f"{values}\n\nHow many times as fast ours is, round by round:\n\n{ratios}\n\n{charts}"


def _figures(measured: Document) -> Sequence[Figure]:
    rows = measured["measurements"]
    return engine_figures(rows) if _is_engine(measured) else [figure_of(row) for row in rows]


def _is_engine(measured: Document) -> bool:
    return bool(measured["table"] == "engine")


def _draw(figures: Sequence[Figure], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, (work, title) in _CHARTS.items():
        some = [each for each in figures if each.work == work and each.unit != _RATIO]
        (folder / name).write_text(bar_chart(f"{work}, {title}", some))
