"""The report shows the figures that were kept, and leaves the words alone."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.demo_table import DemoError, time_demo
from benchmarks.figures import Figure, Figures, figure_of, shown, with_spread
from benchmarks.report import DOCUMENT, write_report
from benchmarks.tables import TABLES
from benchmarks.targets import TARGETS, Target

MEMORY = {
    "table": "memory",
    "command": "python -m benchmarks memory",
    "seconds": 40,
    "conditions": {"machine": "a slow one"},
    "measurements": [{"work": "engine", "what": "idle", "unit": "MB", "median": 90, "values": [80, 90, 100]}],
}
ENGINE_ROW = {
    "work": "w1", "n": 1000, "steps": 13000, "seconds": 1.3, "steps_per_s": 10_000.0, "p50_ms": 5.0, "p99_ms": 9.0,
    "engine_us_per_step": 1.0, "postgres_us_per_step": 1.0, "valkey_us_per_step": 1.0, "skills_us_per_step": 0.0,
    "load": 1.0, "yardstick_ms": 1.0,
}  # fmt: skip
ENGINE = {
    "table": "engine",
    "command": "python -m benchmarks engine",
    "seconds": 200,
    "conditions": {},
    "measurements": [ENGINE_ROW, {**ENGINE_ROW, "work": "two engines", "steps_per_s": 14_000.0}],
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    for each in (MEMORY, ENGINE):
        (folder / f"{each['table']}.json").write_text(json.dumps(each))
    return folder


PEERS = {
    "table": "peers",
    "command": "python -m benchmarks peers",
    "seconds": 400,
    "conditions": {},
    "measurements": [
        {"work": "one20", "what": "RunEngine", "unit": "ms", "median": 4, "values": [4.0]},
        {"work": "one20", "what": "A & B", "unit": "ms", "median": 8, "values": [6.0, 8.0, 9.0]},
        {"work": "one20", "what": "RunEngine to A & B", "unit": "×", "median": 2, "values": [2.0]},
    ],
}


def test_only_the_marked_parts_change(results: Path, tmp_path: Path) -> None:
    """Between markers stands the table of the kept figures with its conditions; written again, it is the same."""
    document = tmp_path / "page.md"
    document.write_text("Before.\n<!-- figures: memory -->\nold\n<!-- end of figures -->\nAfter.\n")
    write_report(results, document)
    text = document.read_text()
    assert text.startswith("Before.\n<!-- figures: memory -->\n\n| work |")
    assert text.endswith("<!-- end of figures -->\nAfter.\n")
    assert "| engine | idle | 90 (80–100) | MB | 3 |" in text
    assert "`python -m benchmarks memory`, 40 s; machine: a slow one" in text
    assert "old" not in text
    write_report(results, document)
    assert document.read_text() == text


def test_targets_are_judged(results: Path, tmp_path: Path) -> None:
    """A target shows its figure and whether must or goal is kept; without a figure it says so."""
    document = tmp_path / "page.md"
    document.write_text("<!-- figures: targets -->\n<!-- end of figures -->\n")
    write_report(results, document)
    text = document.read_text()
    assert "| memory of an idle engine | 90 (80–100) MB | ≤ 120 |  | must |" in text
    assert "| w1, N = 1000 | 10,000 steps/s | ≥ 10,000 | ≥ 20,000 | must |" in text
    assert "| w1, two engines to one | 1.4 × | ≥ 1.3 | ≥ 1.6 | must |" in text
    assert "| one20, p50 | not measured | ≤ 8 | ≤ 4 |  |" in text


def test_peers_are_a_matrix_with_charts(results: Path, tmp_path: Path) -> None:
    """Peers are rows, works columns, ratios a table of their own; the charts beside the page have a bar for each."""
    document = tmp_path / "page.md"
    document.write_text("<!-- figures: peers -->\n<!-- end of figures -->\n")
    (results / "peers.json").write_text(json.dumps(PEERS))
    write_report(results, document)
    text = document.read_text()
    assert "|  | one20, ms |" in text
    assert "| A & B | 8 (6–9) |" in text
    assert "| RunEngine to A & B | 2 |" in text
    chart = ElementTree.parse(tmp_path / "page" / "one20.svg")
    labels = [each.text for each in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert labels[1:] == ["RunEngine", "4", "A & B", "8"]


@pytest.mark.parametrize(
    ("value", "verdict"), [(3.0, "goal"), (4.0, "goal"), (5.0, "must"), (8.0, "must"), (8.1, "no")]
)
def test_verdict(value: float, verdict: str) -> None:
    """The goal where it is kept, else the must, else no; a bound itself is kept."""
    target = Target(row="p50", table="engine", work="w", what="x", must=8, goal=4)
    figure = Figure(work="w", what="x", unit="ms", values=[value])
    assert target.cells({("w", "x"): figure})[-1] == verdict


def test_the_document_has_a_part_for_every_table() -> None:
    """Each table is shown in docs/performance.md, and every target is of a table that there is."""
    text = DOCUMENT.read_text()
    assert [name for name in ("targets", *TABLES) if f"<!-- figures: {name} -->" not in text] == []
    assert {target.table for target in TARGETS} <= TABLES.keys()


def test_figures_survive_json() -> None:
    """A figure that was kept is the one that was measured."""
    figures = Figures(lambda line: None)
    figures.add("a", "b", "ms", 1.5)
    figures.add("a", "b", "ms", 2.5)
    assert [figure_of(json.loads(json.dumps(row))) for row in figures.rows()] == figures.all()


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (99.94, "99.9"), (5.0, "5"), (0.125, "0.12"), (0.0, "0")]
)
def test_three_digits(value: float, text: str) -> None:
    """A figure is shown with about three digits."""
    assert shown(value) == text


def test_spread_only_where_there_is_one() -> None:
    """One sample stands alone, several show least and greatest."""
    assert with_spread([2.0]) == "2"
    assert with_spread([3.0, 1.0, 2.0]) == "2 (1–3)"


def test_the_first_step_of_the_demo_is_timed(tmp_path: Path) -> None:
    """The first line of a run or step that goes on counts, and none after it; the end is later."""
    figures = Figures(lambda line: None)
    script = (
        "echo Run queued; echo '12:00:00  plan_campaign  running'; echo '12:00:01  plan_campaign  completed in 1 s'"
    )
    time_demo("demo", ["sh", "-c", script], tmp_path, figures)
    first, end = figures.all()
    assert (first.what, len(first.values)) == ("until the first step runs", 1)
    assert 0 < first.median <= end.median


def test_a_demo_that_fails_is_no_figure(tmp_path: Path) -> None:
    """Its last lines are in the error."""
    with pytest.raises(DemoError, match="status 3:\nbroken"):
        time_demo("demo", ["sh", "-c", "echo broken; exit 3"], tmp_path, Figures(lambda line: None))
