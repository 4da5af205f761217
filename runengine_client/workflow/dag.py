"""The steps of a workflow as a graph of numbers: order, levels, cycles, what is downstream of what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from runengine_client.pb.runengine.v1 import workflow_pb2


@dataclass(frozen=True, kw_only=True)
class Dag:
    """Steps by number, in the order of the definition; unknown and repeated dependencies are left out."""

    parents: Sequence[Sequence[int]]

    @cached_property
    def children(self) -> Sequence[Sequence[int]]:
        """The steps that wait for each step."""
        children: list[list[int]] = [[] for _ in self.parents]
        for number, parents in enumerate(self.parents):
            for parent in parents:
                children[parent].append(number)
        return children

    @cached_property
    def order(self) -> Sequence[int]:
        """The steps, each after its parents; those in or behind a cycle are missing."""
        waits_for = [len(parents) for parents in self.parents]
        order = [number for number, count in enumerate(waits_for) if not count]
        for number in order:
            for child in self.children[number]:
                waits_for[child] -= 1
                if not waits_for[child]:
                    order.append(child)
        return order

    @cached_property
    def levels(self) -> Sequence[int]:
        """The longest way from a step without parents to each step; 0 in or behind a cycle."""
        levels = [0] * len(self.parents)
        for number in self.order:
            levels[number] = max((levels[parent] + 1 for parent in self.parents[number]), default=0)
        return levels

    @cached_property
    def ancestors(self) -> Sequence[int]:
        """Bit masks of what is upstream of each step; 0 in or behind a cycle."""
        masks = [0] * len(self.parents)
        for number in self.order:
            for parent in self.parents[number]:
                masks[number] |= masks[parent] | 1 << parent
        return masks

    def downstream(self, seeds: Iterable[int]) -> set[int]:
        """The seeds and everything that waits for them, directly or not."""
        found = set(seeds)
        waiting = list(found)
        while waiting:
            for child in self.children[waiting.pop()]:
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found

    def cycles(self) -> list[list[int]]:
        """Cycles without a step in common, each step waiting for the next, from the lowest number on."""
        left = set(range(len(self.parents))) - set(self.order)
        found: list[list[int]] = []
        while left:
            cycle = self._cycle_in(left)
            if not cycle:
                return found
            lowest = cycle.index(min(cycle))
            found.append(cycle[lowest:] + cycle[:lowest])
            left -= set(cycle)
        return found

    def _cycle_in(self, left: set[int]) -> list[int]:
        """A cycle among these steps; steps that are found to lead to none are taken out of them."""
        path: list[int] = []
        place: dict[int, int] = {}
        while left:
            if not path:
                path, place = [min(left)], {min(left): 0}
            parent = next((each for each in self.parents[path[-1]] if each in left), None)
            if parent is None:
                left.discard(path[-1])
                del place[path.pop()]
            elif parent in place:
                return path[place[parent] :]
            else:
                place[parent] = len(path)
                path.append(parent)
        return []


def step_numbers(workflow: workflow_pb2.Workflow) -> dict[str, int]:
    """The number of each step id; of one that is there twice, the first."""
    numbers: dict[str, int] = {}
    for number, step in enumerate(workflow.steps):
        numbers.setdefault(step.step_id, number)
    return numbers


def dag_of(workflow: workflow_pb2.Workflow) -> Dag:
    """The graph of a workflow's dependencies that make sense: known steps other than the step itself."""
    numbers = step_numbers(workflow)
    return Dag(
        parents=[
            tuple(
                dict.fromkeys(numbers[each] for each in step.depends_on if each in numbers and numbers[each] != number)
            )
            for number, step in enumerate(workflow.steps)
        ]
    )


def change_impact(workflow: workflow_pb2.Workflow, change_type: str) -> tuple[set[int], set[int]]:
    """The seeds of a change request, and everything downstream of them, the seeds too.

    Raises:
        ValueError: the workflow has no such change request; the message lists those it has.
    """
    rules = {rule.type: rule for rule in workflow.change_requests}
    if change_type not in rules:
        known = ", ".join(rules) or "none"
        raise ValueError(f"{workflow.name} has no change request {change_type!r}; it has: {known}")
    seeds = seed_numbers(workflow, rules[change_type])
    return seeds, dag_of(workflow).downstream(seeds)


def seed_numbers(workflow: workflow_pb2.Workflow, rule: workflow_pb2.ChangeRequestRule) -> set[int]:
    """The steps a change request names; `*` is every step."""
    numbers = step_numbers(workflow)
    if "*" in rule.seed_step_ids:
        return set(numbers.values())
    return {numbers[seed] for seed in rule.seed_step_ids if seed in numbers}
