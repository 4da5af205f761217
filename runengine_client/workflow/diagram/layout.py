"""Places steps in columns by level so that few lines cross and most run straight.

Source: Sugiyama, Tagawa, Toda, "Methods for Visual Understanding of Hierarchical System Structures" (1981): layers,
waypoints where a line passes a layer, barycentre ordering. Positions within a column are least squares by isotonic
regression (pool adjacent violators). A step has one line through each layer, whoever it goes to: lines are shared.
"""

import itertools
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runengine_client.workflow.dag import Dag

SWEEPS = 8
WAYPOINT_HEIGHT = 10.0


@dataclass(slots=True, eq=False)
class Item:
    """A step in its column, or a waypoint where the line of a step passes one; `y` is its middle."""

    step: int
    is_waypoint: bool
    height: float
    y: float = 0.0
    before: "list[Item]" = field(default_factory=list, repr=False)
    after: "list[Item]" = field(default_factory=list, repr=False)


def lay_out(dag: Dag, *, box_height: float, gap: float) -> list[list[Item]]:
    """The items of each column from top to bottom, with their places; the topmost edge is at 0.

    Args:
        dag: without cycles.
        box_height: of a step.
        gap: the least distance between two items.
    """
    columns = _columns(dag, box_height)
    _order(columns)
    _place(columns, gap)
    top = min((item.y - item.height / 2 for column in columns for item in column), default=0.0)
    for column in columns:
        for item in column:
            item.y -= top
    return columns


def _columns(dag: Dag, box_height: float) -> list[list[Item]]:
    columns: list[list[Item]] = [[] for _ in range(max(dag.levels, default=-1) + 1)]
    boxes = [Item(step=number, is_waypoint=False, height=box_height) for number in range(len(dag.parents))]
    for number, box in enumerate(boxes):
        columns[dag.levels[number]].append(box)
    for number, children in enumerate(dag.children):
        way = [boxes[number]]
        for level in range(dag.levels[number] + 1, max((dag.levels[child] for child in children), default=0)):
            waypoint = Item(step=number, is_waypoint=True, height=WAYPOINT_HEIGHT)
            columns[level].append(waypoint)
            _join(way[-1], waypoint)
            way.append(waypoint)
        for child in children:
            _join(way[dag.levels[child] - dag.levels[number] - 1], boxes[child])
    return columns


def _join(left: Item, right: Item) -> None:
    left.after.append(right)
    right.before.append(left)


def _order(columns: list[list[Item]]) -> None:
    """Sort each column by where its neighbours are, to and fro, and keep the order with the fewest crossings."""
    best, fewest = [list(column) for column in columns], _crossings(columns)
    for sweep in range(SWEEPS):
        is_forward = sweep % 2 == 0
        for index in range(1, len(columns)) if is_forward else range(len(columns) - 2, -1, -1):
            known = {id(item): place for place, item in enumerate(columns[index - 1 if is_forward else index + 1])}
            current = {id(item): place for place, item in enumerate(columns[index])}
            means = {
                id(item): _mean([known[id(each)] for each in (item.before if is_forward else item.after)])
                for item in columns[index]
            }
            columns[index].sort(key=lambda item: _or_else(means[id(item)], current[id(item)]))
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    columns[:] = best


def _crossings(columns: Sequence[Sequence[Item]]) -> int:
    """How many pairs of lines cross between neighbouring columns."""
    count = 0
    for left, right in itertools.pairwise(columns):
        place = {id(item): number for number, item in enumerate(right)}
        seen: list[int] = []
        for item in left:
            targets = sorted(place[id(each)] for each in item.after)
            count += sum(len(seen) - bisect_left(seen, target + 1) for target in targets)
            for target in targets:
                insort(seen, target)
    return count


def _place(columns: Sequence[Sequence[Item]], gap: float) -> None:
    """Move every item towards the mean of its neighbours, in the given order and without overlaps."""
    for column in columns:
        wanted = [0.0] * len(column)
        _spread(column, wanted, gap)
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted = [_or_else(_mean([each.y for each in item.before + item.after]), item.y) for item in column]
            _spread(column, wanted, gap)


def _spread(column: Sequence[Item], wanted: Iterable[float], gap: float) -> None:
    """The places nearest to the wanted ones in which neighbours keep their distance."""
    offsets: list[float] = []
    for number, item in enumerate(column):
        before = column[number - 1]
        offsets.append(offsets[-1] + (before.height + item.height) / 2 + gap if number else 0.0)
    blocks: list[tuple[float, int]] = []  # mean and size
    for offset, want in zip(offsets, wanted, strict=True):
        mean, size = want - offset, 1
        while blocks and blocks[-1][0] >= mean:
            other, count = blocks.pop()
            mean, size = (other * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    shifts = [mean for mean, size in blocks for _ in range(size)]
    for item, offset, shift in zip(column, offsets, shifts, strict=True):
        item.y = offset + shift


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _or_else(value: float | None, other: float) -> float:
    return other if value is None else value
