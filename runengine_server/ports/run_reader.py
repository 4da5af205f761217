"""Runs as callers read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.ids import RunId, RunKey, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.run import Run, Step
from runengine_server.domain.states import RunStatus, StepStatus, TriggerType
from runengine_server.domain.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What never changes of a run and is needed to read the rest of it."""

    key: RunKey
    run_id: RunId
    tenant: Tenant
    workflow_digest: WorkflowDigest


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as stored: `run.failed_step` is None and its number given instead, for the workflow to name."""

    key: RunKey
    run: Run
    failed_step: StepNo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs of a tenant; empty or None means any; `created_after` is inclusive."""

    workflow_name: str = ""
    statuses: Sequence[RunStatus] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    base_run_id: RunId | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    trigger_type: TriggerType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFilter:
    """Which steps of a run, from a number on; no statuses means any.

    `is_full` adds outputs and attempts (never the input, which is derived). Then the answer ends before the outputs
    exceed `output_bytes_max`, but not before the first step.
    """

    from_step: StepNo
    limit: int
    statuses: Sequence[StepStatus] = ()
    is_full: bool = False
    output_bytes_max: int = 2**21


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSteps:
    """Steps in definition order and the run they belong to, of one moment: `row.run.last_sequence` says which.

    `has_more` when steps of the filter follow. Levels, inputs and progress are left for the service to fill in.
    """

    row: RunRow
    steps: Sequence[tuple[StepNo, Step]]
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ArtifactPlace:
    """Where an artifact stands among those of a run."""

    step: StepNo
    ordinal: int


class RunReader(Protocol):
    """Read models, derived from definition, state, queue and results; each answer is of one snapshot."""

    async def find(self, tenant: Tenant, run_id: RunId) -> RunIdentity | None:
        """A tenant's run; None also for another tenant's."""

    async def run(self, run: RunIdentity, *, is_full: bool) -> RunRow | None:
        """One run, the payloads only when `is_full`; None when retention has removed it."""

    async def runs(self, tenant: Tenant, where: RunFilter, *, before: RunKey | None, limit: int) -> Sequence[RunRow]:
        """Runs in the BASIC view, newest first, older than `before`."""

    async def steps(self, run: RunIdentity, workflow: Workflow, where: StepFilter) -> RunSteps | None:
        """The steps a filter selects; None when retention has removed the run."""

    async def artifacts(
        self, run: RunIdentity, workflow: Workflow, *, step: StepNo | None, after: ArtifactPlace | None, limit: int
    ) -> Sequence[tuple[ArtifactPlace, Artifact]]:
        """A run's artifacts, also of reused steps, in order of place; only one step's unless `step` is None."""
