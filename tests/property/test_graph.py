"""Property: order, levels, closure, ancestors and cycles agree with what their definitions say, computed naively."""

from hypothesis import given
from hypothesis import strategies as st

from runengine_server.domain.ids import StepNo
from runengine_server.planner.graph import (
    Graph,
    ancestor_sets,
    build_graph,
    downstream_closure,
    find_cycles,
    topological_levels,
    topological_order,
)

SIZE_MAX = 9


@st.composite
def graphs(draw: st.DrawFn, *, is_acyclic: bool) -> Graph:
    """Any small graph; an acyclic one under a random naming, so that definition order says nothing."""
    size = draw(st.integers(0, SIZE_MAX))
    edges = draw(st.sets(st.tuples(st.integers(0, SIZE_MAX), st.integers(0, SIZE_MAX)), max_size=20))
    inside = {(a, b) for a, b in edges if a < size and b < size and a != b}
    if is_acyclic:
        names = draw(st.permutations(range(size)))
        inside = {(names[max(a, b)], names[min(a, b)]) for a, b in inside}
    return build_graph([StepNo(b) for a, b in sorted(inside) if a == step] for step in range(size))


def reachable(adjacency: tuple[tuple[StepNo, ...], ...]) -> dict[int, set[int]]:
    """What each step leads to in one or more moves (Warshall)."""
    reach = {step: set(map(int, direct)) for step, direct in enumerate(adjacency)}
    for middle in reach:
        for step in reach:
            if middle in reach[step]:
                reach[step] |= reach[middle]
    return reach


@given(graphs(is_acyclic=False))
def test_dependents_mirror_dependencies(graph: Graph) -> None:
    """b is a dependency of a exactly when a is a dependent of b; both sides ascend."""
    size = range(len(graph.dependencies))
    assert {(a, b) for a in size for b in graph.dependencies[a]} == {(a, b) for b in size for a in graph.dependents[b]}
    assert all(list(steps) == sorted(set(steps)) for steps in (*graph.dependencies, *graph.dependents))


@given(graphs(is_acyclic=True))
def test_order_is_topological_and_stable(graph: Graph) -> None:
    """Every step comes once, behind its dependencies, and as early as its number allows."""
    order = topological_order(graph)
    assert sorted(order) == list(range(len(graph.dependencies)))
    done: set[StepNo] = set()
    for step in order:
        ready = {s for s in map(StepNo, range(len(order))) if s not in done and done.issuperset(graph.dependencies[s])}
        assert step == min(ready)
        done.add(step)


@given(graphs(is_acyclic=True))
def test_levels_are_longest_ways(graph: Graph) -> None:
    """A root has level 0, every other step one more than its highest dependency."""
    levels = topological_levels(graph, topological_order(graph))
    assert list(levels) == [max((levels[d] + 1 for d in direct), default=0) for direct in graph.dependencies]


@given(graphs(is_acyclic=True), st.sets(st.integers(0, SIZE_MAX)))
def test_closure_is_seeds_and_downstream(graph: Graph, wanted: set[int]) -> None:
    """The closure is the seeds and exactly what a way leads to from them."""
    seeds = {StepNo(seed) for seed in wanted if seed < len(graph.dependencies)}
    reach = reachable(graph.dependents)
    assert downstream_closure(graph.dependents, seeds) == seeds.union(*(reach[seed] for seed in seeds))


@given(graphs(is_acyclic=True))
def test_ancestors_are_everything_upstream(graph: Graph) -> None:
    """Bit n of a step's mask is set exactly when a way leads from it to step n."""
    masks = ancestor_sets(graph, topological_order(graph))
    reach = reachable(graph.dependencies)
    for step, mask in enumerate(masks):
        assert {n for n in range(len(masks)) if mask >> n & 1} == reach[step]


@given(graphs(is_acyclic=False))
def test_cycles_are_found_one_a_group(graph: Graph) -> None:
    """Each group of steps that lead to one another gives one true cycle that starts at its lowest step."""
    reach = reachable(graph.dependencies)
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in reach if a in reach[a]}
    cycles = find_cycles(graph)
    assert [min(group) for group in sorted(groups, key=min)] == [cycle[0] for cycle in cycles]
    for cycle in cycles:
        assert len(set(cycle)) == len(cycle) >= 2
        assert frozenset(cycle) <= next(group for group in groups if cycle[0] in group)
        following = [*cycle[1:], cycle[0]]
        assert all(after in graph.dependencies[step] for step, after in zip(cycle, following, strict=True))
    assert bool(cycles) == (len(topological_order(graph)) < len(graph.dependencies))
