"""The benchmark of a page runs, as small as it gets."""

from pathlib import Path

from ..e2e.test_benchmarks import figures, measured
from ..support.browser import build_page, chromium_path
from .watch_page import FOLDER


def test_a_page_is_measured(tmp_path: Path) -> None:
    """Both protocols have a time until an event is in the page, and a longer one until it is drawn."""
    chromium_path()
    build_page(FOLDER)
    small = ("--steps", "3", "--pause-s", "0.01", "--reps", "1")
    found = figures(measured(tmp_path / "browser.json", "browser", *small))
    for protocol in ("connect", "grpc-web"):
        assert 0 < found[protocol, "commit to the page, p50"] <= found[protocol, "commit to visible, p50"]
