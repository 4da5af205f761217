"""What a DAG of step numbers implies: order, levels, closure, ancestors and, where it is none, its cycles."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from runengine_server.domain.ids import StepNo

Adjacency = tuple[tuple[StepNo, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Steps by number; `dependencies[n]` come before n, `dependents[n]` after, both direct and ascending."""

    dependencies: Adjacency
    dependents: Adjacency


def build_graph(dependencies: Iterable[Iterable[StepNo]]) -> Graph:
    """Return the graph in which step n waits for `dependencies[n]`; the same dependency twice counts once."""
    before: Adjacency = tuple(tuple(sorted(set(steps))) for steps in dependencies)
    after: list[list[StepNo]] = [[] for _ in before]
    for step, direct in enumerate(before):
        for dependency in direct:
            after[dependency].append(StepNo(step))
    return Graph(dependencies=before, dependents=tuple(tuple(steps) for steps in after))


def topological_order(graph: Graph) -> tuple[StepNo, ...]:
    """Return the steps with every dependency before its dependents, the lowest number first among equals.

    Steps on a cycle or behind one are left out, so the result is as long as the graph exactly when it is a DAG.
    """
    waiting_for = [len(direct) for direct in graph.dependencies]
    ready = [StepNo(step) for step, count in enumerate(waiting_for) if not count]
    order: list[StepNo] = []
    while ready:
        step = heapq.heappop(ready)
        order.append(step)
        for dependent in graph.dependents[step]:
            waiting_for[dependent] -= 1
            if not waiting_for[dependent]:
                heapq.heappush(ready, dependent)
    return tuple(order)


def topological_levels(graph: Graph, order: Sequence[StepNo]) -> tuple[int, ...]:
    """Return, by step number, the length of the longest way from a root: 0 without dependencies."""
    levels = [0] * len(graph.dependencies)
    for step in order:
        direct = graph.dependencies[step]
        if direct:
            levels[step] = 1 + max(levels[dependency] for dependency in direct)
    return tuple(levels)


def downstream_closure(dependents: Adjacency, seeds: Iterable[StepNo]) -> frozenset[StepNo]:
    """Return the seeds and every step that directly or indirectly depends on one of them."""
    reached = set(seeds)
    pending = list(reached)
    while pending:
        for dependent in dependents[pending.pop()]:
            if dependent not in reached:
                reached.add(dependent)
                pending.append(dependent)
    return frozenset(reached)


def ancestor_sets(graph: Graph, order: Sequence[StepNo]) -> list[int]:
    """Return, by step number, the set of all steps it directly or indirectly depends on, as a bit mask.

    Bit n of a mask stands for step n. 10,000 masks of 10,000 bits take 12.5 MB and one OR an edge. Steps that are
    not in `order` have no ancestors here.
    """
    ancestors = [0] * len(graph.dependencies)
    for step in order:
        mask = 0
        for dependency in graph.dependencies[step]:
            mask |= ancestors[dependency] | (1 << dependency)
        ancestors[step] = mask
    return ancestors


def find_cycles(graph: Graph) -> list[tuple[StepNo, ...]]:
    """Return one shortest cycle for each strongly connected group of two or more steps.

    Each cycle starts with the lowest step number of its group, names every step once, and each step of it depends on
    the next, the last one on the first. A step that depends on itself only is no group.
    """
    groups = [group for group in _strong_components(graph.dependencies) if len(group) > 1]
    return [_shortest_cycle(graph.dependencies, min(group), frozenset(group)) for group in sorted(groups, key=min)]


def _shortest_cycle(dependencies: Adjacency, start: StepNo, group: frozenset[StepNo]) -> tuple[StepNo, ...]:
    came_from: dict[StepNo, StepNo] = {}
    pending = deque([start])
    while pending:
        step = pending.popleft()
        for dependency in dependencies[step]:
            if dependency == start and step != start:
                return _path_back(came_from, start, step)
            if dependency in group and dependency != start and dependency not in came_from:
                came_from[dependency] = step
                pending.append(dependency)
    raise ValueError("the steps are not strongly connected")


def _path_back(came_from: dict[StepNo, StepNo], start: StepNo, last: StepNo) -> tuple[StepNo, ...]:
    path = [last]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return tuple(reversed(path))


def _strong_components(dependencies: Adjacency) -> list[list[StepNo]]:
    """Return the strongly connected components.

    Source: R. Tarjan, Depth-first search and linear graph algorithms (1972), with an explicit stack so that a chain
    of 10,000 steps does not meet the recursion limit.
    """
    lowest: dict[StepNo, int] = {}  # stack position of the first step known to be reachable
    is_done = [False] * len(dependencies)
    stack: list[StepNo] = []
    components: list[list[StepNo]] = []
    for root in map(StepNo, range(len(dependencies))):
        visits = [] if is_done[root] else [_visit(root, dependencies, stack, lowest)]
        while visits:
            step, position, remaining = visits[-1]
            child = next((d for d in remaining if not is_done[d] and not _seen(d, step, lowest)), None)
            if child is not None:
                visits.append(_visit(child, dependencies, stack, lowest))
                continue
            visits.pop()
            if visits:
                parent = visits[-1][0]
                lowest[parent] = min(lowest[parent], lowest[step])
            if lowest[step] == position:
                component = stack[position:]
                del stack[position:]
                for member in component:
                    is_done[member] = True
                components.append(component)
    return components


def _visit(
    step: StepNo, dependencies: Adjacency, stack: list[StepNo], lowest: dict[StepNo, int]
) -> tuple[StepNo, int, Iterator[StepNo]]:
    """Put a step on the stack; its position there serves as Tarjan's index."""
    position = lowest[step] = len(stack)
    stack.append(step)
    return step, position, iter(dependencies[step])


def _seen(dependency: StepNo, step: StepNo, lowest: dict[StepNo, int]) -> bool:
    """Tell whether the dependency is on the stack already, and if so note that the step reaches it."""
    if dependency not in lowest:
        return False
    lowest[step] = min(lowest[step], lowest[dependency])
    return True
