"""Draws a workflow with box-drawing characters: one step a line, by level, with a lane for each output in use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runengine_client.workflow.diagram.model import Diagram, DiagramTooLargeError, Tone

STEPS_MAX = 10_000
LANES_MAX = 24
"""Beyond this nobody follows a line any more; the picture then lists dependencies by name."""

PARENTS_SHOWN = 4

MARKS = {
    Tone.PLAIN: "●",
    Tone.SEED: "◆",
    Tone.DOWNSTREAM: "●",
    Tone.REUSED: "○",
    Tone.PENDING: "○",
    Tone.READY: "○",
    Tone.RUNNING: "◐",
    Tone.COMPLETED: "●",
    Tone.SKIPPED: "◇",
    Tone.FAILED: "✗",
    Tone.CANCELLED: "⊘",
    Tone.UNKNOWN: "?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """One line: the level (empty unless it is the level's first step), lanes, and the step."""

    level: str
    lanes: str
    step_id: str
    detail: str
    tone: Tone

    @property
    def mark_at(self) -> int:
        """Where in `lanes` the step's own mark is."""
        return self.lanes.index(MARKS[self.tone])


def render_text(diagram: Diagram) -> Sequence[TextRow]:
    """The lines of the picture, a step each.

    Lines run downwards from a step to those that wait for it: `├` and `┤` leave a lane that goes on, `╰` and `╯` one
    that ends there, `┼` and `┴` are the same in the middle of a line, and `─│─` passes a lane without touching it.

    Raises:
        DiagramTooLargeError: more than 10,000 steps.
    """
    if len(diagram.nodes) > STEPS_MAX:
        raise DiagramTooLargeError(f"{len(diagram.nodes)} steps are too many to draw", f"at most {STEPS_MAX} are drawn")
    order, lanes = _Lanes(diagram).drawn()
    nodes = [diagram.nodes[number] for number in order]
    width = max((len(each) for each in lanes), default=0)
    return [
        TextRow(
            level=str(diagram.dag.levels[number]) if is_first else "",
            lanes=lanes[place].ljust(width) if lanes else MARKS[node.tone],
            step_id=node.step_id,
            detail=node.detail if lanes else node.detail + _named_parents(diagram, number),
            tone=node.tone,
        )
        for place, (number, node, is_first) in enumerate(zip(order, nodes, _starts(diagram, order), strict=True))
    ]


def _starts(diagram: Diagram, order: Sequence[int]) -> Iterator[bool]:
    before = -1
    for number in order:
        level = diagram.dag.levels[number]
        yield level != before
        before = level


def _named_parents(diagram: Diagram, number: int) -> str:
    parents = diagram.dag.parents[number]
    if not parents:
        return ""
    shown = ", ".join(diagram.nodes[parent].step_id for parent in parents[:PARENTS_SHOWN])
    more = len(parents) - PARENTS_SHOWN
    return f" ← {shown}{f' and {more} more' if more > 0 else ''}"


class _Lanes:
    """Gives each step a lane from its line to that of the last step that waits for it."""

    def __init__(self, diagram: Diagram) -> None:
        self._diagram = diagram
        self._dag = diagram.dag
        self._open: list[int | None] = []
        """Who has each lane."""
        self._lane_of: dict[int, int] = {}
        self._waiting = [len(children) for children in self._dag.children]

    def drawn(self) -> tuple[list[int], list[str]]:
        """The steps from top to bottom, and the lanes of each line; no lanes at all where they would be too many."""
        order: list[int] = []
        lines: list[str] = []
        is_too_wide = False
        for row in self._diagram.rows:
            for number in sorted(row, key=self._place):
                order.append(number)
                if not is_too_wide:
                    lines.append(self._line(number))
                    is_too_wide = len(self._open) > LANES_MAX
        return order, [] if is_too_wide else lines

    def _place(self, number: int) -> float:
        """Below the steps it waits for: the fewer lines cross."""
        parents = [self._lane_of[each] for each in self._dag.parents[number] if each in self._lane_of]
        return sum(parents) / len(parents) if parents else 0.0

    def _line(self, number: int) -> str:
        joined = {self._lane_of[parent] for parent in self._dag.parents[number]}
        for parent in self._dag.parents[number]:
            self._waiting[parent] -= 1
        ending = {self._lane_of[parent] for parent in self._dag.parents[number] if not self._waiting[parent]}
        before = [owner is not None for owner in self._open]
        for lane in ending:
            self._open[lane] = None
        own = min(ending) if ending else self._free()
        if own == len(self._open):
            self._open.append(None)
        text = self._drawn_line(number, own, joined, ending, before)
        if self._dag.children[number]:
            self._open[own] = number
            self._lane_of[number] = own
        while self._open and self._open[-1] is None:
            self._open.pop()
        return text

    def _free(self) -> int:
        return next((lane for lane, owner in enumerate(self._open) if owner is None), len(self._open))

    def _drawn_line(self, number: int, own: int, joined: set[int], ending: set[int], before: Sequence[bool]) -> str:
        first, last = min({own, *joined}), max({own, *joined})
        text = ""
        for lane in range(max(len(before), own + 1)):
            is_open = lane < len(before) and before[lane]
            if lane == own:
                text += MARKS[self._diagram.nodes[number].tone]
            elif lane in joined:
                text += _corner(lane, first, last, lane in ending)
            else:
                text += "│" if is_open else "─" if first < lane < last else " "
            text += "─" if first <= lane < last else " "
        return text.rstrip()


def _corner(lane: int, first: int, last: int, is_ending: bool) -> str:
    if lane == first:
        return "╰" if is_ending else "├"
    if lane == last:
        return "╯" if is_ending else "┤"
    return "┴" if is_ending else "┼"
