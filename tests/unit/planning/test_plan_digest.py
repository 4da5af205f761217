"""The digest of a plan: what goes into it, so that a stranger can tell why two plans differ."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
import rfc8785

from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo, WorkflowDigest
from runengine_server.domain.plan import PlannedStep, ReuseBinding
from runengine_server.domain.states import CacheMode, OutputSource, PlanAction, PlanReason
from runengine_server.planner.plan_digest import plan_digest

BASE = RunId("550e8400-e29b-41d4-a716-446655440000")
OTHER = RunId("660e8400-e29b-41d4-a716-446655440001")
BINDING = ReuseBinding(
    producer_run=RunKey(7),
    producer_step=StepNo(0),
    producer_run_id=BASE,
    source=OutputSource.BASE_RUN,
    input_hash="1" * 64,
    cache_version="1",
    output_hash="2" * 64,
)
STEPS = (
    PlannedStep(step_id=StepId("plan"), action=PlanAction.REUSE, reason=PlanReason.UNAFFECTED, binding=BINDING),
    PlannedStep(step_id=StepId("music"), action=PlanAction.EXECUTE, reason=PlanReason.FORCED),
)
PLAN: dict[str, Any] = {
    "base_run_id": BASE,
    "workflow_digest": WorkflowDigest("a" * 64),
    "payload": {"style": "epic"},
    "mode": CacheMode.DEFAULT,
    "steps": STEPS,
}


def test_it_is_over_exactly_what_the_plan_will_do() -> None:
    """SHA-256 of the RFC 8785 form of base, workflow, payload hash, mode, forced steps, each step and its producer."""
    form: Any = {
        "baseRunId": BASE,
        "workflowDigest": "a" * 64,
        "payloadHash": hashlib.sha256(b'{"style":"epic"}').hexdigest(),
        "cacheMode": "DEFAULT",
        "forcedStepIds": ["music"],
        "steps": [["plan", "REUSE", "UNAFFECTED", f"{BASE}/0"], ["music", "EXECUTE", "FORCED", None]],
    }
    assert plan_digest(**PLAN) == hashlib.sha256(rfc8785.dumps(form)).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        {"base_run_id": OTHER},
        {"base_run_id": None},
        {"workflow_digest": WorkflowDigest("b" * 64)},
        {"payload": {"style": "calm"}},
        {"mode": CacheMode.READ_ONLY},
        {"steps": STEPS[::-1]},
        {"steps": (replace(STEPS[0], binding=replace(BINDING, producer_run_id=OTHER)), STEPS[1])},
        {"steps": (replace(STEPS[0], binding=replace(BINDING, producer_step=StepNo(1))), STEPS[1])},
        {"steps": (STEPS[0], replace(STEPS[1], reason=PlanReason.SEED))},
        {"steps": (STEPS[0], replace(STEPS[1], action=PlanAction.UNKNOWN))},
    ],
)
def test_each_part_counts(other: dict[str, Any]) -> None:
    """Another base, version, payload, mode, order, producer, reason or action is another plan."""
    assert plan_digest(**{**PLAN, **other}) != plan_digest(**PLAN)


def test_what_only_explains_does_not_count() -> None:
    """Causes, pointers and estimates may be cut or change without making it another plan."""
    told = replace(STEPS[1], caused_by=(StepId("plan"),), changed_pointers=("/style",), estimate_s=2.0)
    assert plan_digest(**{**PLAN, "steps": (STEPS[0], told)}) == plan_digest(**PLAN)
