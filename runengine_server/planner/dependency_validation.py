"""What can be wrong between steps: dependencies, cycles, and selectors that read what is not upstream."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from runengine_server.domain.errors import FieldViolation
from runengine_server.domain.ids import StepId, StepNo
from runengine_server.domain.workflow import StepDefinition
from runengine_server.planner.compiled import SelectorCompiler
from runengine_server.planner.graph import Graph, ancestor_sets, build_graph, find_cycles, topological_order
from runengine_server.planner.selector import CompiledSelector, SelectorInvalid

_CYCLE_STEPS_SHOWN_MAX: Final = 50


def graph_of(steps: Sequence[StepDefinition], step_no: Mapping[StepId, StepNo]) -> Graph:
    """Return the graph of the dependencies that make sense: known steps other than the step itself."""
    return build_graph(
        [step_no[other] for other in step.depends_on if other in step_no and other != step.step_id] for step in steps
    )


def dependency_violations(
    steps: Sequence[StepDefinition], step_no: Mapping[StepId, StepNo]
) -> Iterator[FieldViolation]:
    """Yield wrong dependencies in definition order, then one violation for each group of steps that form cycles."""
    for number, step in enumerate(steps):
        seen: set[StepId] = set()
        for index, dependency in enumerate(step.depends_on):
            field = f"steps[{number}].dependsOn[{index}]"
            if dependency in seen:
                yield FieldViolation(field=field, description=f"'{dependency}' is listed more than once")
            elif dependency == step.step_id:
                yield FieldViolation(field=field, description=f"step '{dependency}' depends on itself")
            elif dependency not in step_no:
                yield FieldViolation(field=field, description=f"there is no step '{dependency}' in this workflow")
            seen.add(dependency)
    graph = graph_of(steps, step_no)
    if len(topological_order(graph)) < len(steps):
        for cycle in find_cycles(graph):
            yield _cycle_violation(steps, cycle)


def _cycle_violation(steps: Sequence[StepDefinition], cycle: Sequence[StepNo]) -> FieldViolation:
    first = steps[cycle[0]]
    ids = [steps[number].step_id for number in cycle]
    path = [*ids[:_CYCLE_STEPS_SHOWN_MAX], *(["…"] if len(ids) > _CYCLE_STEPS_SHOWN_MAX else []), ids[0]]
    return FieldViolation(
        field=f"steps[{cycle[0]}].dependsOn[{first.depends_on.index(ids[1])}]",
        description=f"these steps form a cycle, each waiting for the next: {' → '.join(path)}",
    )


def read_violations(
    steps: Sequence[StepDefinition], step_no: Mapping[StepId, StepNo], graph: Graph
) -> Iterator[FieldViolation]:
    """Yield every problem of every selector, and every read of a step that is not certain to have finished before."""
    compiler = SelectorCompiler()
    ancestors: _Ancestors | None = None
    for number, step in enumerate(steps):
        try:
            selector = compiler.compile(step.input_selector)
        except SelectorInvalid as error:
            for problem in error.problems:
                text = f" in ${{{{ {problem.expression} }}}}" if problem.expression else ""
                yield FieldViolation(field=_place(number, problem.pointer), description=f"{problem.message}{text}")
            continue
        if all(read in step.depends_on and read in step_no and read != step.step_id for read in selector.step_ids):
            continue
        ancestors = ancestors or _Ancestors(graph)
        yield from _wrong_reads(step, StepNo(number), selector, step_no, ancestors)


class _Ancestors:
    """Who is upstream of whom; computed once, and only for workflows that read beyond direct dependencies."""

    def __init__(self, graph: Graph) -> None:
        order = topological_order(graph)
        self._ordered = frozenset(order)
        self._masks = ancestor_sets(graph, order)

    def has(self, step: StepNo, other: StepNo) -> bool:
        """Whether `other` finishes before `step` starts; True where a cycle leaves that open."""
        return step not in self._ordered or bool(self._masks[step] >> other & 1)


def _wrong_reads(
    step: StepDefinition,
    number: StepNo,
    selector: CompiledSelector,
    step_no: Mapping[StepId, StepNo],
    ancestors: _Ancestors,
) -> Iterator[FieldViolation]:
    for leaf in selector.leaves:
        for name in leaf.reads.step_ids:
            read = StepId(name)
            other = step_no.get(read)
            if other is None:
                message = f"reads step '{read}', which this workflow does not have"
            elif read == step.step_id:
                message = f"reads step '{read}' itself, which has no output yet"
            elif ancestors.has(number, other):
                continue
            elif ancestors.has(other, number):
                message = f"reads step '{read}', which runs after '{step.step_id}'; a step can read earlier steps only"
            else:
                message = (
                    f"reads step '{read}', which may not have finished when '{step.step_id}' starts; "
                    f"add '{read}' to dependsOn of '{step.step_id}'"
                )
            yield FieldViolation(
                field=_place(number, leaf.pointer), description=f"{message} (${{{{ {leaf.expression} }}}})"
            )


def _place(number: int, pointer: str) -> str:
    return f"steps[{number}].inputSelector{pointer}"
