"""What the queue's contract suite is about: small workflows, their runs, and what attempts return."""

import hashlib
from collections.abc import Mapping, Sequence
from uuid import uuid4

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import (
    CacheDecision,
    CacheKey,
    CacheQuery,
    Claimant,
    Fingerprint,
)
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.plan import PlannedStep, ReuseBinding
from runengine_server.domain.states import (
    CacheMode,
    CacheOutcome,
    FailurePolicy,
    MissReason,
    OutputSource,
    PlanAction,
    PlanReason,
    TriggerType,
)
from runengine_server.ports.run_store import NewRun, RequestKey
from runengine_server.ports.step_queue import (
    AttemptFailed,
    CacheFiling,
    Lease,
    StepFailed,
)

TENANT = Tenant("acme")
FINGERPRINT = Fingerprint(skill_id="no.op", cache_version="1", cache_epoch="")
MISS = CacheDecision(outcome=CacheOutcome.MISS, miss_reason=MissReason.NEVER_SEEN)
TIMEOUT_MS = 60_000
LONG_MS = 3_600_000
QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = 1, 2, 3, 4, 5
S_PENDING, S_READY, S_RUNNING, S_COMPLETED, S_SKIPPED, S_FAILED, S_CANCELLED = range(1, 8)
Needs = Mapping[int, Sequence[int]]
CHAIN: Needs = {0: (), 1: (0,), 2: (1,)}
DIAMOND: Needs = {0: (), 1: (0,), 2: (0,), 3: (1, 2)}


def new_run(
    needs: Needs,
    *,
    priority: int = 0,
    policy: FailurePolicy = FailurePolicy.FINISH_RUNNING,
    deadline_s: float | None = None,
    reused: Mapping[int, ReuseBinding] | None = None,
    base: RunKey | None = None,
    request_id: str = "",
    digest: str = "00" * 32,
    tenant: Tenant = TENANT,
) -> NewRun:
    """A run to create."""
    reused = reused or {}
    waiting = [0 if n in reused else sum(need not in reused for need in direct) for n, direct in needs.items()]
    return NewRun(
        id=RunId(str(uuid4())),
        tenant=tenant,
        principal="ann",
        workflow_name="wf",
        workflow_version="1.0.0",
        workflow_digest=WorkflowDigest("cd" * 32),
        trigger_type=TriggerType.INITIAL,
        cache_mode=CacheMode.DEFAULT,
        priority=priority,
        failure_policy=policy,
        payload=b'{"x":1}',
        change=None,
        base_run=base,
        root_run=base,
        plan=[
            PlannedStep(step_id=StepId(f"s{n}"), action=PlanAction.EXECUTE, reason=PlanReason.INITIAL) for n in needs
        ],
        labels={},
        deadline_s=deadline_s,
        request=RequestKey(rpc="Trigger", request_id=request_id, digest=digest),
        answer=b"first",
        waiting_for=waiting,
        ready=[(StepNo(n), TIMEOUT_MS) for n, count in enumerate(waiting) if count == 0 and n not in reused],
        reused=[(StepNo(n), binding) for n, binding in reused.items()],
        is_base_version=base is not None,
    )


def binding(run: RunKey, run_id: RunId, step: int) -> ReuseBinding:
    """What a run that reuses a step of another records."""
    return ReuseBinding(
        producer_run=run,
        producer_step=StepNo(step),
        producer_run_id=run_id,
        source=OutputSource.BASE_RUN,
        input_hash=hashlib.sha256(f"input of {step}".encode()).hexdigest(),
        cache_version="1",
        output_hash="ab" * 32,
    )


def input_hash(lease: Lease) -> str:
    return hash_of_input(lease.step)


def hash_of_input(step: StepNo) -> str:
    return hashlib.sha256(f"input of {step}".encode()).hexdigest()


def query(place: Claimant) -> CacheQuery:
    """What the step asks the cache; equal for steps of one number, whatever their run."""
    step_id = StepId(f"s{place[1]}")
    key = CacheKey(tenant=TENANT, workflow_name="wf", step_id=step_id, input_hash=hash_of_input(place[1]))
    return CacheQuery(key=key, fingerprint=FINGERPRINT, hot_ttl_s=60, claimant=place)


def attempt_failed(lease: Lease, delay_ms: int = 0) -> AttemptFailed:
    """The lease's attempt failed and another follows."""
    failure = Failure(code="SKILL_TIMEOUT", message="slow", retryable=True, attempt=lease.attempt)
    return AttemptFailed(
        lease=lease, failure=failure, delay_ms=delay_ms, worker_id="w", input_hash=input_hash(lease), decision=MISS
    )


def step_failed(lease: Lease, *, is_attempted: bool = True) -> StepFailed:
    """The lease's step failed for good."""
    failure = Failure(code="SKILL_FAILED", message="no", step_id=f"s{lease.step}", attempt=lease.attempt)
    return StepFailed(
        lease=lease,
        failure=failure,
        run_failure=failure,
        is_attempted=is_attempted,
        input_hash=input_hash(lease) if is_attempted else None,
        decision=MISS if is_attempted else None,
    )


def filing(step: int = 0) -> CacheFiling:
    """A cache entry that a completion leaves."""
    return CacheFiling(workflow_name="wf", step_id=f"s{step}", fingerprint=FINGERPRINT)


def artifact(name: str) -> ProducedArtifact:
    """A file a skill published."""
    return ProducedArtifact(
        media_type="text/plain",
        uri=f"file:///{name}",
        content_hash=hashlib.sha256(name.encode()).hexdigest(),
        size_bytes=len(name),
        filename=name,
    )
