"""How a plan becomes rows of the queue."""

from runengine_server.domain.ids import SkillId, StepId
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.states import PlanAction, PlanReason
from runengine_server.domain.workflow import ATTEMPT_TIMEOUT_S_MAX, StepDefinition, Workflow
from runengine_server.planner.compiled import compile_workflow
from runengine_server.service.new_run import lay_out

EXECUTE, REUSE = PlanAction.EXECUTE, PlanAction.REUSE


def test_a_reused_step_waits_for_nothing() -> None:
    """A step that is reused although a dependency it does not read executes is not counted down to ready."""
    needs: list[tuple[str, ...]] = [(), ("a",), ("b",)]
    steps = tuple(
        StepDefinition(step_id=StepId(name), skill_id=SkillId("no.op"), depends_on=tuple(map(StepId, before)))
        for name, before in zip("abc", needs, strict=True)
    )
    compiled = compile_workflow(Workflow(name="ordered", version="1.0.0", steps=steps))
    actions = (EXECUTE, REUSE, EXECUTE)
    plan = RebuildPlan(
        digest="",
        steps=tuple(
            PlannedStep(step_id=step.step_id, action=action, reason=PlanReason.INITIAL)
            for step, action in zip(steps, actions, strict=True)
        ),
    )
    layout = lay_out(compiled, plan, lambda _: 1)
    assert layout.waiting_for == (0, 0, 0)
    assert [step for step, _ in layout.ready] == [0, 2]


def test_a_lease_outlasts_what_is_not_known_yet() -> None:
    """While a skill's own timeout is unknown its steps' leases may last a week, which no runner's default exceeds."""
    plain = StepDefinition(step_id=StepId("a"), skill_id=SkillId("no.op"))
    week_ms = round(ATTEMPT_TIMEOUT_S_MAX * 1000)
    assert plain.lease_timeout_ms(None, is_skill_known=False) == week_ms < 2**31
    assert plain.lease_timeout_ms(None, is_skill_known=True) == 60_000
    assert plain.lease_timeout_ms(600.0, is_skill_known=True) == 600_000
    assert plain.lease_timeout_ms(1e9, is_skill_known=True) == week_ms
    timed = StepDefinition(step_id=StepId("a"), skill_id=SkillId("no.op"), timeout_s=5.0)
    assert timed.lease_timeout_ms(None, is_skill_known=False) == 5_000
