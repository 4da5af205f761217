"""Comparisons of runs onto the wire."""

from runengine_client.pb.runengine.v1 import run_engine_pb2
from runengine_server.rpc.conversion.run import step_to_proto
from runengine_server.service.messages import RunComparison, StepDiff


def comparison_to_proto(comparison: RunComparison) -> run_engine_pb2.CompareRunsResponse:
    """The comparison; a step that a run does not have stays unset."""
    return run_engine_pb2.CompareRunsResponse(
        steps=[_step_diff(diff) for diff in comparison.steps], root_cause_step_ids=comparison.root_cause_step_ids
    )


def _step_diff(diff: StepDiff) -> run_engine_pb2.StepDiff:
    return run_engine_pb2.StepDiff(
        step_id=diff.step_id,
        left=None if diff.left is None else step_to_proto(diff.left),
        right=None if diff.right is None else step_to_proto(diff.right),
        input_pointers=diff.input_pointers,
        output_changed=diff.output_changed,
    )
