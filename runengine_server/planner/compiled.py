"""A workflow made executable: numbered steps, their order and closure, and selectors ready to resolve."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from runengine_server.domain.ids import StepId, StepNo, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.workflow import ALL_STEPS, ChangeRule, Workflow
from runengine_server.planner.graph import (
    Adjacency,
    build_graph,
    downstream_closure,
    topological_levels,
    topological_order,
)
from runengine_server.planner.selector import CompiledSelector, compile_selector


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledWorkflow:
    """A workflow version as planner and scheduler use it; every tuple is indexed by step number.

    Attributes:
        workflow: the definition; step n is `workflow.steps[n]`.
        step_no: the number of each step id.
        dependencies: the steps each step directly waits for, ascending: those it depends on and those it reads, for a
            step between them may be reused long before what is read has finished.
        dependents: the steps that directly wait for each step, ascending.
        levels: topological rank, 0 for steps without dependencies.
        order: step numbers, every dependency first, otherwise in definition order.
        selectors: the input selectors; equal templates share one.
        reads: the steps whose output or artifacts each step's selector reads.
    """

    workflow: Workflow
    step_no: Mapping[StepId, StepNo]
    dependencies: Adjacency
    dependents: Adjacency
    levels: tuple[int, ...]
    order: tuple[StepNo, ...]
    selectors: tuple[CompiledSelector, ...]
    reads: Adjacency

    def closure(self, seeds: Iterable[StepNo]) -> frozenset[StepNo]:
        """Return the seeds and everything downstream of them."""
        return downstream_closure(self.dependents, seeds)

    def seeds_of(self, rule: ChangeRule) -> tuple[StepNo, ...]:
        """Return the rule's seeds as step numbers, in the rule's order; every step for `*`."""
        if ALL_STEPS in rule.seed_step_ids:
            return tuple(StepNo(step) for step in range(len(self.workflow.steps)))
        return tuple(self.step_no[StepId(seed)] for seed in rule.seed_step_ids)


class SelectorCompiler:
    """Compiles each distinct template of a workflow once; large workflows repeat them."""

    def __init__(self) -> None:
        """Start with nothing compiled."""
        self._compiled: dict[str, CompiledSelector] = {}

    def compile(self, template: JsonObject) -> CompiledSelector:
        """Return the compiled template.

        Raises:
            SelectorInvalid: carries every problem of the template.
        """
        try:
            text = json.dumps(template)
        except (TypeError, ValueError, RecursionError):  # not JSON, or too deep: the compiler says where
            return compile_selector(template)
        compiled = self._compiled.get(text)
        if compiled is None:
            compiled = self._compiled[text] = compile_selector(template)
        return compiled


class CompiledWorkflows(Protocol):
    """Where compiled workflows come from."""

    async def compiled(self, digest: WorkflowDigest) -> CompiledWorkflow:
        """The workflow with this digest, ready to use."""


def compile_workflow(workflow: Workflow) -> CompiledWorkflow:
    """Return the executable form of a workflow that has been validated.

    Raises:
        ValueError: the workflow was never validated: a dependency is unknown, there is a cycle, or a selector is
            invalid.
    """
    step_no = {step.step_id: StepNo(number) for number, step in enumerate(workflow.steps)}
    compiler = SelectorCompiler()
    selectors = tuple(compiler.compile(step.input_selector) for step in workflow.steps)
    try:
        reads = tuple(tuple(step_no[StepId(read)] for read in selector.step_ids) for selector in selectors)
        graph = build_graph(
            [*(step_no[dependency] for dependency in step.depends_on), *read]
            for step, read in zip(workflow.steps, reads, strict=True)
        )
    except KeyError as error:
        raise ValueError(f"workflow {workflow.name} {workflow.version}: unknown dependency {error}") from None
    order = topological_order(graph)
    if len(order) != len(workflow.steps):
        raise ValueError(f"workflow {workflow.name} {workflow.version}: the steps form a cycle")
    return CompiledWorkflow(
        workflow=workflow,
        step_no=step_no,
        dependencies=graph.dependencies,
        dependents=graph.dependents,
        levels=topological_levels(graph, order),
        order=order,
        selectors=selectors,
        reads=reads,
    )
