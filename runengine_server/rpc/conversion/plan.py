"""Plans onto the wire."""

from runengine_client.pb.runengine.v1 import run_pb2
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.states import PlanAction
from runengine_server.rpc.conversion.scalar import duration_of


def plan_to_proto(plan: RebuildPlan) -> run_pb2.RebuildPlan:
    """The plan with its counts, steps in definition order."""
    return run_pb2.RebuildPlan(
        steps=[_planned_step(step) for step in plan.steps],
        execute_count=plan.count(PlanAction.EXECUTE),
        reuse_count=plan.count(PlanAction.REUSE),
        unknown_count=plan.count(PlanAction.UNKNOWN),
        seed_step_ids=plan.seed_step_ids,
        digest=plan.digest,
        base_run_id=plan.base_run_id or "",
        estimate=duration_of(plan.estimate_s),
    )


def _planned_step(step: PlannedStep) -> run_pb2.PlannedStep:
    return run_pb2.PlannedStep(
        step_id=step.step_id,
        action=run_pb2.PlanAction.ValueType(step.action),
        reason=run_pb2.PlanReason.ValueType(step.reason),
        caused_by=step.caused_by,
        changed_pointers=step.changed_pointers,
        unknown_until=step.unknown_until,
        estimate=duration_of(step.estimate_s),
    )
