"""What a rebuild or a retry takes from the run it builds on, what from its request, and what from the workflow."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import uuid4

import pytest

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.cache import CacheMiss, CacheQuery
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import PreconditionError
from runengine_server.domain.ids import RunId, RunKey, SkillId, StepId, Tenant, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, FailurePolicy, MissReason, PlanAction, PlanReason, RunStatus
from runengine_server.domain.workflow import ChangeRule, StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.ports.run_store import CreatedRun, NewRun
from runengine_server.ports.skill_runner import SkillAvailability, SkillInfo
from runengine_server.service.messages import RetryRunRequest, TriggerUpdateRequest
from runengine_server.service.retry_run import retry_run
from runengine_server.service.start_run import StartRuns
from runengine_server.service.trigger_update import trigger_update

pytestmark = pytest.mark.anyio

CALLER = Caller(principal="ada", tenant=Tenant("acme"), scopes=frozenset({Scope.RUN_WRITE}))
DIGEST = WorkflowDigest("aa" * 32)
WORKFLOW = Workflow(
    name="wf",
    version="1.0.0",
    digest=DIGEST,
    failure_policy=FailurePolicy.FINISH_RUNNING,
    steps=(
        StepDefinition(step_id=StepId("a"), skill_id=SkillId("t.a"), input_selector={"style": "${{ trigger.style }}"}),
    ),
    change_rules=(ChangeRule(type="style.update", seed_step_ids=("a",), cache_mode=CacheMode.READ_ONLY),),
)
BASE = BaseRun(
    run=RunKey(7),
    root_run=RunKey(5),
    run_id=RunId(str(uuid4())),
    status=RunStatus.COMPLETED,
    workflow_name="wf",
    workflow_digest=DIGEST,
    payload={"style": "calm", "title": "Sale"},
    change=ChangeRequest(type="style.update", payload={"style": "calm"}),
    cache_mode=CacheMode.BYPASS,
    failure_policy=FailurePolicy.FAIL_FAST,
    priority=7,
    labels={"team": "x"},
    plan=[(PlanAction.EXECUTE, PlanReason.SEED)],
    results={},
)


@dataclass(slots=True)
class World:
    """Everything a use case needs, with one run in it; keeps what is created."""

    base_run: BaseRun
    is_offered: bool = True
    created: list[NewRun] = field(default_factory=list)

    async def base(self, tenant: Tenant, run_id: RunId) -> BaseRun | None:
        return self.base_run if (tenant, run_id) == (CALLER.tenant, self.base_run.run_id) else None

    async def create(self, new: NewRun, intake: None) -> CreatedRun:
        self.created.append(new)
        return CreatedRun(run=RunKey(8))

    async def earlier_answer(self, tenant: Tenant, request: object) -> None:
        return None

    async def recent_runs(self, *_: object) -> dict[RunKey, WorkflowDigest]:
        return {}

    async def durations(self, _: object) -> dict[object, object]:
        return {}

    async def compiled(self, digest: WorkflowDigest) -> CompiledWorkflow:
        assert digest == DIGEST
        return compile_workflow(WORKFLOW)

    async def lookup(self, queries: Sequence[CacheQuery]) -> list[CacheMiss]:
        return [CacheMiss(reason=MissReason.NEVER_SEEN) for _ in queries]

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        info = SkillInfo(skill_id=skill_id, version="1", cache_version="1") if self.is_offered else None
        return SkillAvailability(has_target=True, is_catalogue_known=True, info=info)

    async def intake(self, *_: object) -> AbstractContextManager[None]:
        return nullcontext()

    def starting(self) -> StartRuns:
        this = cast(Any, self)
        return StartRuns(catalogue=this, workflows=this, store=this, cache=this, skills=this, signal=this)


async def updated(payload: JsonObject, **options: Any) -> NewRun:
    world = World(BASE)
    request = TriggerUpdateRequest(
        base_run_id=BASE.run_id, change_type="style.update", change_payload=payload, **options
    )
    await trigger_update(world.starting(), CALLER, request)
    (new,) = world.created
    return new


async def test_a_retry_repeats_the_run() -> None:
    """Payload, change, mode, failure policy, priority and labels are the retried run's; its deadline is not."""
    world = World(replace(BASE, status=RunStatus.FAILED))
    await retry_run(world.starting(), CALLER, RetryRunRequest(run_id=BASE.run_id))
    (new,) = world.created
    assert (new.payload, new.change) == (b'{"style":"calm","title":"Sale"}', BASE.change)
    assert (new.cache_mode, new.failure_policy) == (CacheMode.BYPASS, FailurePolicy.FAIL_FAST)
    assert (new.priority, new.labels, new.deadline_s) == (7, {"team": "x"}, None)
    assert (new.base_run, new.root_run, new.workflow_digest) == (BASE.run, BASE.root_run, DIGEST)


async def test_an_update_inherits_nothing_but_the_payload() -> None:
    """Mode, policy, priority, labels and deadline are not the base's; the payload is, with the change merged in."""
    new = await updated({"style": None, "text": "now"})
    assert (new.payload, new.change) == (
        b'{"text":"now","title":"Sale"}',
        ChangeRequest(type="style.update", payload={"style": None, "text": "now"}),
    )
    assert (new.cache_mode, new.failure_policy) == (CacheMode.READ_ONLY, FailurePolicy.FINISH_RUNNING)
    assert (new.priority, new.labels, new.deadline_s) == (0, {}, None)
    assert (new.base_run, new.root_run, new.workflow_digest) == (BASE.run, BASE.root_run, DIGEST)


async def test_the_requests_mode_outranks_the_rules() -> None:
    """A change rule's mode is a default; DEFAULT can be asked for too."""
    assert (await updated({})).cache_mode is CacheMode.READ_ONLY
    for mode in CacheMode:
        assert (await updated({}, cache_mode=mode)).cache_mode is mode


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED])
async def test_a_skill_that_nobody_offers_any_more_is_refused(status: RunStatus) -> None:
    """SKILL_UNREGISTERED at an update and at a retry as at a trigger, and nothing is started."""
    world = World(replace(BASE, status=status), is_offered=False)
    with pytest.raises(PreconditionError, match=r"t\.a") as refused:
        if status is RunStatus.COMPLETED:
            request = TriggerUpdateRequest(base_run_id=BASE.run_id, change_type="style.update", change_payload={})
            await trigger_update(world.starting(), CALLER, request)
        else:
            await retry_run(world.starting(), CALLER, RetryRunRequest(run_id=BASE.run_id))
    assert refused.value.reason == "SKILL_UNREGISTERED"
    assert world.created == []
