"""Draws a workflow as SVG: no scripts, no fonts or files from elsewhere, light and dark by the reader's preference."""

import re
import unicodedata
from collections.abc import Iterator
from xml.sax.saxutils import escape

from runengine_client.workflow.diagram.layout import Item, lay_out
from runengine_client.workflow.diagram.model import Diagram, DiagramNode, DiagramTooLargeError, Tone
from runengine_client.workflow.diagram.style import STYLE
from runengine_client.workflow.diagram.text import MARKS

STEPS_MAX = 2_000
LINES_MAX = 50_000
"""Pieces of lines from one column to the next; both limits keep drawing below two seconds."""

BOX_HEIGHT = 46.0
GAP = 18.0
COLUMN_GAP = 64.0
MARGIN = 24.0
HEADER = 62.0
LEGEND = 34.0
STEP_ID_CHARACTERS_MAX = 36
DETAIL_CHARACTERS_MAX = 42
STEP_ID_EM, DETAIL_EM = 7.25, 6.65
"""Width of a character of the two sizes of text; `textLength` makes it so in every font."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DESCRIPTION_CHARACTERS_MAX = 2_000


def render_svg(diagram: Diagram) -> str:
    """The picture, a column for each level, from left to right.

    Raises:
        DiagramTooLargeError: more than 2,000 steps, or too many lines to lay out in reasonable time.
    """
    hint = "use --format text or mermaid"
    if len(diagram.nodes) > STEPS_MAX:
        raise DiagramTooLargeError(f"{len(diagram.nodes)} steps are too many for a picture of {STEPS_MAX}", hint)
    lines = diagram.edge_count + sum(
        diagram.dag.levels[max(children, key=diagram.dag.levels.__getitem__)] - diagram.dag.levels[number]
        for number, children in enumerate(diagram.dag.children)
        if children
    )
    if lines > LINES_MAX:
        raise DiagramTooLargeError(f"{lines} lines are too many for a picture of {LINES_MAX}", hint)
    return "\n".join(_Picture(diagram).lines()) + "\n"


class _Picture:
    """The elements of one picture, with every place worked out."""

    def __init__(self, diagram: Diagram) -> None:
        self._diagram = diagram
        self._columns = lay_out(diagram.dag, box_height=BOX_HEIGHT, gap=GAP)
        self._widths = [
            max((_box_width(diagram.nodes[item.step]) for item in column if not item.is_waypoint), default=0.0)
            for column in self._columns
        ]
        self._lefts = [MARGIN + sum(self._widths[:level]) + level * COLUMN_GAP for level in range(len(self._columns))]
        self._tones = [tone for tone in Tone if any(node.tone is tone for node in diagram.nodes)]
        self._has_legend = self._tones != [Tone.PLAIN]

    def lines(self) -> Iterator[str]:
        """The document, line by line."""
        right = self._lefts[-1] + self._widths[-1] if self._columns else 0.0
        heading = max(len(self._diagram.title) * 9.7, len(self._diagram.subtitle) * 7.9)
        legend = sum(_legend_width(self._legend_text(tone)) for tone in self._tones) if self._has_legend else 0.0
        width = max(right, MARGIN + heading, MARGIN + legend) + MARGIN
        bottom = max((item.y + item.height / 2 for column in self._columns for item in column), default=0.0)
        height = HEADER + bottom + MARGIN + (LEGEND if self._has_legend else 0.0)
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" '
            f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
        )
        yield f'<title id="title">{_xml(self._diagram.title)}</title>'
        yield f'<desc id="desc">{_xml(self._description())}</desc>'
        yield f"<style>{STYLE}</style>"
        yield f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>'
        yield f'<text class="heading" x="{MARGIN:g}" y="30">{_xml(self._diagram.title)}</text>'
        yield f'<text class="subheading" x="{MARGIN:g}" y="50">{_xml(self._diagram.subtitle)}</text>'
        yield from self._all_edges()
        yield from self._all_boxes()
        if self._has_legend:
            yield from self._legend(height - LEGEND / 2)
        yield "</svg>"

    def _all_edges(self) -> Iterator[str]:
        """One path for each step that others wait for; highlighted ones come last, on top."""
        pieces: dict[int, list[str]] = {}
        for level, column in enumerate(self._columns):
            for item in column:
                path = pieces.setdefault(item.step, [])
                y = item.y + HEADER
                right = self._lefts[level] + self._widths[level]
                if item.is_waypoint:
                    path.append(f"M{self._lefts[level]:.0f} {y:.1f}H{right:.0f}")
                elif item.after and (edge := self._lefts[level] + _box_width(self._diagram.nodes[item.step])) < right:
                    path.append(f"M{edge:.0f} {y:.1f}H{right:.0f}")
                path.extend(self._curve(level, y, other.y + HEADER) for other in item.after)
        drawn = [(self._is_hot(step), step, "".join(path)) for step, path in pieces.items() if path]
        for is_hot, step, line in sorted(drawn, key=lambda each: each[0]):
            name = _xml(self._diagram.nodes[step].step_id)
            yield f'<path class="edge{" hot" if is_hot else ""}" d="{line}"><title>from {name}</title></path>'

    def _curve(self, level: int, start_y: float, end_y: float) -> str:
        start, end = self._lefts[level] + self._widths[level], self._lefts[level + 1]
        middle = (start + end) / 2
        return f"M{start:.0f} {start_y:.1f}C{middle:.0f} {start_y:.1f} {middle:.0f} {end_y:.1f} {end:.0f} {end_y:.1f}"

    def _is_hot(self, step: int) -> bool:
        return self._diagram.nodes[step].tone in (Tone.SEED, Tone.DOWNSTREAM)

    def _all_boxes(self) -> Iterator[str]:
        for level, column in enumerate(self._columns):
            for item in column:
                if not item.is_waypoint:
                    yield from self._box(self._diagram.nodes[item.step], self._lefts[level], item)

    def _box(self, node: DiagramNode, left: float, item: Item) -> Iterator[str]:
        top, width = item.y - item.height / 2 + HEADER, _box_width(node)
        yield f'<g class="{node.tone}"><title>{_xml(_hover(node))}</title>'
        if item.before:
            yield f'<path class="tip" d="M{left:.0f} {top + item.height / 2:.1f}l-7 -4v8z"/>'
        yield f'<rect class="box" x="{left:.0f}" y="{top:.1f}" width="{width:.0f}" height="{item.height:.0f}" rx="7"/>'
        yield f'<rect class="bar" x="{left:.0f}" y="{top:.1f}" width="6" height="{item.height:.0f}" rx="3"/>'
        yield _text("step", left + 16, top + 19, _cut(node.step_id, STEP_ID_CHARACTERS_MAX), STEP_ID_EM)
        yield _text("detail", left + 16, top + 36, _detail(node), DETAIL_EM)
        yield "</g>"

    def _legend(self, y: float) -> Iterator[str]:
        x = MARGIN
        for tone in self._tones:
            text = self._legend_text(tone)
            yield f'<g class="{tone}"><rect class="bar" x="{x:.0f}" y="{y - 9:.1f}" width="12" height="12" rx="3"/>'
            yield f"{_text('detail', x + 18, y + 1, text, DETAIL_EM)}</g>"
            x += _legend_width(text)

    def _legend_text(self, tone: Tone) -> str:
        return f"{tone} {sum(node.tone is tone for node in self._diagram.nodes)}"

    def _description(self) -> str:
        levels = [
            f"Level {level}: {', '.join(_spoken(self._diagram.nodes[number]) for number in row)}."
            for level, row in enumerate(self._diagram.rows)
        ]
        return _cut_end(" ".join([f"{self._diagram.subtitle}.", *levels]), _DESCRIPTION_CHARACTERS_MAX)


def _box_width(node: DiagramNode) -> float:
    step_id = _columns_of(_cut(node.step_id, STEP_ID_CHARACTERS_MAX)) * STEP_ID_EM
    return round(max(step_id, _columns_of(_detail(node)) * DETAIL_EM) + 30)


def _legend_width(text: str) -> float:
    return 18 + _columns_of(text) * DETAIL_EM + 22


def _detail(node: DiagramNode) -> str:
    mark = "" if node.tone is Tone.PLAIN else f"{MARKS[node.tone]} "
    return mark + _cut_end(" ".join(node.detail.split()), DETAIL_CHARACTERS_MAX)


def _hover(node: DiagramNode) -> str:
    return f"{node.step_id}\n{node.skill_id}" + (f"\n{node.note}" if node.note else "")


def _spoken(node: DiagramNode) -> str:
    return f"{node.step_id} ({node.note})" if node.note else node.step_id


def _text(kind: str, x: float, y: float, text: str, em: float) -> str:
    length = f' textLength="{_columns_of(text) * em:.1f}" lengthAdjust="spacingAndGlyphs"' if len(text) > 1 else ""
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.1f}"{length}>{_xml(text)}</text>'


def _columns_of(text: str) -> int:
    """Width in characters; ideographs count twice."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _cut(text: str, characters_max: int) -> str:
    """The text with its middle left out where it is too long: names differ at both ends."""
    if len(text) <= characters_max:
        return text
    head = (characters_max - 1) // 2
    return f"{text[:head]}…{text[len(text) - (characters_max - 1 - head) :]}"


def _cut_end(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def _xml(text: str) -> str:
    return escape(_NOT_XML.sub("�", text), {'"': "&quot;"})
