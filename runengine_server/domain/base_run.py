"""A run that a rebuild starts from, with what each of its steps produced."""

from collections.abc import Mapping
from dataclasses import dataclass

from runengine_server.domain.ids import RunId, RunKey, StepNo, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseResult:
    """How a step of a base run ended successfully; `duration_s` is its producer's."""

    producer_run: RunKey
    producer_step: StepNo
    producer_run_id: RunId
    input_hash: str
    cache_version: str
    output_hash: str
    duration_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRun:
    """What planning needs to know of a run to build on; `results` by step number, successes only."""

    run: RunKey
    root_run: RunKey
    run_id: RunId
    status: RunStatus
    workflow_name: str
    workflow_digest: WorkflowDigest
    payload: JsonObject
    results: Mapping[StepNo, BaseResult]
