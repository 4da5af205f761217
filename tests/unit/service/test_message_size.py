"""Estimates of message sizes are never far below the truth."""

from google.protobuf.struct_pb2 import Struct

from runengine_server.domain.ids import StepId
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.states import PlanAction, PlanReason
from runengine_server.rpc.conversion.plan import plan_to_proto
from runengine_server.service.message_size import fitting, fitting_plan, json_bytes, parts, plan_bytes


def test_json_is_not_underestimated() -> None:
    """The estimate of a value is at least its size as a Struct, also for numbers and non-ASCII text."""
    value = {"numbers": [1, 2.5, True, None] * 50, "ä" * 30: "€" * 100, "deep": {"list": [[], {}, [{"a": "b"}]]}}
    struct = Struct()
    struct.update(value)
    assert struct.ByteSize() <= json_bytes(value) <= 2 * struct.ByteSize()


def test_parts() -> None:
    """Parts hold what fits, in order, and an item that fits nowhere is alone."""
    assert list(parts([1, 2, 3, 9, 1, 1], lambda n: n, 4)) == [[1, 2], [3], [9], [1, 1]]
    assert list(parts([1, 1, 1], lambda n: n, 100, count_max=2)) == [[1, 1], [1]]
    assert list(parts([], len)) == []
    assert fitting([9, 1], lambda n: n, 4) == [9]
    assert fitting([], len) == []


def test_a_plan_names_as_much_as_fits() -> None:
    """A plan beyond 3 MiB names fewer causes and pointers a step, fewer until it fits; its digest and actions stay."""
    causes = tuple(StepId(f"step_with_a_long_name_{n:040}") for n in range(16))
    step = PlannedStep(
        step_id=causes[0],
        action=PlanAction.UNKNOWN,
        reason=PlanReason.WIDENED,
        caused_by=causes,
        changed_pointers=("/" + "x" * 250,) * 16,
        unknown_until=causes,
    )
    small = RebuildPlan(steps=(step,) * 10, digest="d")
    assert fitting_plan(small) is small
    for count, most in ((1_000, 4), (3_000, 1), (10_000, 0)):
        plan = RebuildPlan(steps=(step,) * count, digest="d")
        assert plan_to_proto(plan).ByteSize() > 3 * 2**20
        fitting = fitting_plan(plan)
        assert plan_to_proto(fitting).ByteSize() <= plan_bytes(fitting) <= 3 * 2**20
        assert (len(fitting.steps), fitting.digest, fitting.steps[0].action) == (count, "d", PlanAction.UNKNOWN)
        assert {len(each.caused_by) for each in fitting.steps} == {most}
