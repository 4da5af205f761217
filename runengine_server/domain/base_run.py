"""A run that a rebuild starts from, with what each of its steps produced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runengine_server.domain.ids import RunId, RunKey, StepNo, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, FailurePolicy, PlanAction, PlanReason, RunStatus
from runengine_server.domain.trace_context import TraceContext


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseResult:
    """How a step of a base run ended successfully."""

    producer_run: RunKey
    producer_step: StepNo
    producer_run_id: RunId
    input_hash: str
    cache_version: str
    output_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRun:
    """A run to build on; `plan` and `results` (successes only) by step number in the run's own version.

    `trace` is the call that started it, None where that was not traced.
    """

    run: RunKey
    root_run: RunKey
    run_id: RunId
    status: RunStatus
    workflow_name: str
    workflow_digest: WorkflowDigest
    payload: JsonObject
    change: ChangeRequest | None
    cache_mode: CacheMode
    failure_policy: FailurePolicy
    priority: int
    labels: Mapping[str, str]
    plan: Sequence[tuple[PlanAction, PlanReason]]
    results: Mapping[StepNo, BaseResult]
    trace: TraceContext | None = None
