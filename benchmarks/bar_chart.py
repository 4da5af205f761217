"""Draws figures as horizontal bars in SVG, with a line from the least to the greatest value; no package needed."""

from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks.figures import Figure, shown

_WIDTH: Final = 760
_NAMES: Final = 220
_VALUES: Final = 90
_ROW: Final = 28
_BAR: Final = 16
_TOP: Final = 40
_OURS: Final = "RunEngine"


def bar_chart(title: str, figures: Sequence[Figure]) -> str:
    """One bar for each figure, in their order; ours stands out."""
    longest = max((max(each.values) for each in figures), default=1.0) or 1.0
    scale = (_WIDTH - _NAMES - _VALUES) / longest
    height = _TOP + _ROW * len(figures) + 12
    rows = "\n".join(_row(each, number, scale) for number, each in enumerate(figures))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" role="img">
<rect width="100%" height="100%" fill="#ffffff"/>
<g font-family="system-ui, sans-serif" font-size="13" fill="#1f2933">
<text x="12" y="24" font-weight="600">{escape(title)}</text>
{rows}
</g>
</svg>
"""


def _row(figure: Figure, number: int, scale: float) -> str:
    top = _TOP + number * _ROW
    middle, text = top + _BAR / 2, top + _BAR - 3.5
    end, least, greatest = (_NAMES + value * scale for value in (figure.median, min(figure.values), max(figure.values)))
    colour = "#0b7285" if figure.what.startswith(_OURS) else "#adb5bd"
    return f"""\
<text x="{_NAMES - 10}" y="{text:.1f}" text-anchor="end">{escape(figure.what)}</text>
<rect x="{_NAMES}" y="{top}" width="{end - _NAMES:.1f}" height="{_BAR}" fill="{colour}"/>
<line x1="{least:.1f}" y1="{middle:.1f}" x2="{greatest:.1f}" y2="{middle:.1f}" stroke="#1f2933"/>
<text x="{max(end, greatest) + 8:.1f}" y="{text:.1f}">{shown(figure.median)}</text>"""
