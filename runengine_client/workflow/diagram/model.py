"""What a picture of a workflow shows: its steps by level, and of each what a run or a change does to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from runengine_client.errors import FieldViolation, InvalidArgumentError
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.states import StepStatus
from runengine_client.types import Run, Step
from runengine_client.workflow.dag import Dag, change_impact, dag_of
from runengine_client.workflow.reading import WorkflowDocumentError


class Tone(StrEnum):
    """How a step is shown; the values are words for a reader, and class names in SVG and Mermaid."""

    PLAIN = "plain"
    SEED = "seed"
    DOWNSTREAM = "downstream"
    REUSED = "reused"
    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class DiagramTooLargeError(InvalidArgumentError):
    """The workflow has more steps or edges than a picture of this kind can show."""

    def __init__(self, what: str, hint: str) -> None:
        """Say what is too large, and what to do instead."""
        super().__init__("DIAGRAM_TOO_LARGE", f"{what}; {hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagramNode:
    """One step; `note` says in words what `tone` says in colour, and more."""

    step_id: str
    skill_id: str
    tone: Tone = Tone.PLAIN
    note: str = ""

    @property
    def detail(self) -> str:
        """What stands below or beside the step's id."""
        return self.note or self.skill_id


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """Steps in the order of the definition, and their graph, which has no cycle."""

    title: str
    subtitle: str
    nodes: Sequence[DiagramNode]
    dag: Dag

    @cached_property
    def rows(self) -> Sequence[Sequence[int]]:
        """The numbers of the steps of each level, in the order of the definition."""
        rows: list[list[int]] = [[] for _ in range(max(self.dag.levels, default=-1) + 1)]
        for number, level in enumerate(self.dag.levels):
            rows[level].append(number)
        return rows

    @property
    def edge_count(self) -> int:
        """The dependencies in all."""
        return sum(len(parents) for parents in self.dag.parents)


def diagram_of(workflow: workflow_pb2.Workflow) -> Diagram:
    """The picture of a definition.

    Raises:
        WorkflowDocumentError: its dependencies form a cycle.
    """
    dag = dag_of(workflow)
    cycles = dag.cycles()
    if cycles:
        raise WorkflowDocumentError([_cycle(workflow, cycle) for cycle in cycles], workflow.name)
    nodes = [DiagramNode(step_id=step.step_id, skill_id=step.skill_id) for step in workflow.steps]
    levels = max(dag.levels, default=-1) + 1
    counts = f"{_counted(len(nodes), 'step')}, {_counted(levels, 'level')}"
    return Diagram(title=f"{workflow.name} {workflow.version}", subtitle=counts, nodes=nodes, dag=dag)


def diagram_of_change(workflow: workflow_pb2.Workflow, change_type: str) -> Diagram:
    """The picture of what a change request can make execute: its seeds, and what is downstream of them.

    Raises:
        ValueError: the workflow has no such change request; the message lists those it has.
        WorkflowDocumentError: as `diagram_of`.
    """
    diagram = diagram_of(workflow)
    seeds, impact = change_impact(workflow, change_type)
    tones = {number: Tone.SEED if number in seeds else Tone.DOWNSTREAM for number in impact}
    nodes = [
        replace(node, tone=(tone := tones.get(number, Tone.REUSED)), note=str(tone))
        for number, node in enumerate(diagram.nodes)
    ]
    said = f"{change_type}: {_counted(len(seeds), 'seed')}, {len(impact) - len(seeds)} downstream"
    return replace(diagram, subtitle=f"{said}, {len(nodes) - len(impact)} reused", nodes=nodes)


def diagram_of_run(
    workflow: workflow_pb2.Workflow, run: Run, steps: Sequence[Step], describe: Callable[[Step], str]
) -> Diagram:
    """The picture of a run: each step's status and where its output came from.

    Args:
        workflow: the version that the run executes.
        run: the run.
        steps: of the run.
        describe: what to say of a step besides its status, in a few words.

    Raises:
        WorkflowDocumentError: as `diagram_of`.
    """
    diagram = diagram_of(workflow)
    found: Mapping[str, Step] = {step.step_id: step for step in steps}
    nodes = []
    for node in diagram.nodes:
        step = found.get(node.step_id)
        if step is None:
            nodes.append(replace(node, tone=Tone.UNKNOWN, note=str(StepStatus.UNKNOWN)))
            continue
        more = describe(step)
        nodes.append(replace(node, tone=Tone(step.status.value), note=f"{step.status}{', ' if more else ''}{more}"))
    return replace(diagram, subtitle=f"run {run.id}: {run.status}", nodes=nodes)


def _cycle(workflow: workflow_pb2.Workflow, cycle: Sequence[int]) -> FieldViolation:
    ids = " → ".join(workflow.steps[number].step_id for number in [*cycle, cycle[0]])
    return FieldViolation(field=f"steps[{cycle[0]}].dependsOn", description=f"a cycle cannot be drawn: {ids}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
