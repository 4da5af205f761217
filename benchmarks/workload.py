"""The graphs as workflows, with inputs that never repeat.

Every step reads the run's own payload and one value of each of its dependencies, so that its input is resolved, hashed
and looked up in the cache for real, and is never found there.
"""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Final
from uuid import uuid4
from zlib import crc32

from benchmarks.graphs import CAMPAIGN, CHAIN, FAN, ONE, Graph, output
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_server.domain.json_value import JsonObject

LOCAL_SKILL: Final = "bench.noop"
DIGEST_SKILL: Final = "bench.digest"
REMOTE_SKILL: Final = "remote.noop"
SLOW_SKILL: Final = "remote.slow"

GRAPHS: Final[Mapping[str, Graph]] = {
    "bench.campaign": CAMPAIGN,
    "bench.campaign_remote": CAMPAIGN,
    "bench.fan": FAN,
    "bench.chain": CHAIN,
    "bench.one": ONE,
}


def digest_output(step_id: str, given: Mapping[str, object]) -> dict[str, object]:
    """What steps return whose output is to differ when their input does."""
    return {**output(step_id), "made": crc32(repr(given).encode())}


def payloads() -> Iterator[JsonObject]:
    """Trigger payloads that no run ever had."""
    session = uuid4().hex
    return ({"run": f"{session}-{number}"} for number in count())


def workflows(*, has_remote: bool) -> Iterator[workflow_pb2.Workflow]:
    """The graphs as workflows; those named `…_remote` call the skill behind gRPC, and need its server."""
    for name, graph in GRAPHS.items():
        is_remote = name.endswith("_remote")
        if has_remote or not is_remote:
            yield workflow_of(name, graph, REMOTE_SKILL if is_remote else LOCAL_SKILL)


def workflow_of(name: str, graph: Graph, skill: str, **values: object) -> workflow_pb2.Workflow:
    """A graph as a workflow of steps that all call one skill; `values` are in the input of each."""
    builder = WorkflowBuilder(name, version="1.0.0")
    for step_id, needs in graph.items():
        reads = [expression(f"steps.{each}.output.artifactUri") for each in needs]
        given = {"run": expression("trigger.run"), "from": reads, **values}
        builder.step(step_id, skill=skill, needs=needs, input=given)
    return builder.build()
