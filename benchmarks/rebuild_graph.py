"""The graph that build systems were measured on: leaves, about 99 of them below each middle step, one step over those.

A leaf reads its own value of the payload, and every output differs when its input does, so that early cutoff saves
nothing: one changed value means three steps to execute.
"""

from typing import Final
from uuid import uuid4

from benchmarks.workload import DIGEST_SKILL
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowBuilder, expression

CHANGE: Final = "leaves.update"
"""Names every step as its seed: the engine itself has to find out what a change affects."""


def graph(nodes: int) -> workflow_pb2.Workflow:
    """The graph as a workflow."""
    builder = WorkflowBuilder(graph_name(nodes), version="1.0.0")
    leaves = list(leaf_values(nodes))
    middles = nodes - 1 - len(leaves)
    for leaf in leaves:
        builder.step(leaf, skill=DIGEST_SKILL, input={"in": expression(f"trigger.leaves.{leaf}")})
    for middle in range(middles):
        _over(builder, f"m{middle}", leaves[middle::middles])
    _over(builder, "root", [f"m{middle}" for middle in range(middles)])
    return builder.change(CHANGE, seeds=["*"]).build()


def graph_name(nodes: int) -> str:
    """Of its workflow."""
    return f"bench.graph_{nodes}"


def leaf_values(nodes: int) -> dict[str, object]:
    """What the leaves read; never the same again."""
    session = uuid4().hex
    return {f"l{number}": f"{number}-{session}" for number in range(nodes - max(1, nodes // 100) - 1)}


def changed_leaf(value: str) -> dict[str, object]:
    """A change of one leaf."""
    return {"leaves": {"l7": value}}


def _over(builder: WorkflowBuilder, step_id: str, needs: list[str]) -> None:
    reads = [expression(f"steps.{each}.output.made") for each in needs]
    builder.step(step_id, skill=DIGEST_SKILL, needs=needs, input={"from": reads})
