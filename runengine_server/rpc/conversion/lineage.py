"""Lineages onto the wire."""

from runengine_client.pb.runengine.v1 import run_engine_pb2
from runengine_server.domain.lineage import Lineage
from runengine_server.rpc.conversion.run import artifact_to_proto


def lineage_to_proto(lineage: Lineage) -> run_engine_pb2.GetLineageResponse:
    """The lineage, its artifacts in order."""
    return run_engine_pb2.GetLineageResponse(
        nodes=[run_engine_pb2.LineageNode(artifact=artifact_to_proto(artifact)) for artifact in lineage.artifacts],
        edges=[
            run_engine_pb2.LineageEdge(
                from_artifact_id=edge.from_artifact_id, to_artifact_id=edge.to_artifact_id, step_id=edge.step_id
            )
            for edge in lineage.edges
        ],
    )
