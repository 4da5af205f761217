"""Runs as callers read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.ids import RunId, RunKey, StepNo, Tenant
from runengine_server.domain.run import Run, Step
from runengine_server.domain.states import RunStatus, StepStatus, TriggerType
from runengine_server.domain.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs of a tenant; empty or None means any."""

    workflow_name: str = ""
    statuses: Sequence[RunStatus] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    base_run_id: RunId | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    trigger_type: TriggerType | None = None


class RunReader(Protocol):
    """Read models, derived from definition, state, queue and results; each answer is of one snapshot."""

    async def key(self, tenant: Tenant, run_id: RunId) -> RunKey | None:
        """The internal number of a tenant's run."""

    async def run(self, tenant: Tenant, run_id: RunId, *, is_full: bool) -> Run | None:
        """One run; the payload only when `is_full`."""

    async def runs(
        self, tenant: Tenant, where: RunFilter, *, before: RunKey | None, limit: int
    ) -> Sequence[tuple[RunKey, Run]]:
        """Runs, newest first, older than `before`."""

    async def steps(
        self,
        tenant: Tenant,
        run_id: RunId,
        workflow: Workflow,
        *,
        from_step: StepNo,
        limit: int,
        statuses: Sequence[StepStatus],
        is_full: bool,
    ) -> tuple[Sequence[tuple[StepNo, Step]], int]:
        """Steps in definition order from a number on, and the event sequence they are as of; level is left 0."""

    async def artifacts(
        self,
        tenant: Tenant,
        run_id: RunId,
        workflow: Workflow,
        *,
        step_id: str,
        after: tuple[int, int] | None,
        limit: int,
    ) -> Sequence[tuple[tuple[int, int], Artifact]]:
        """A run's artifacts, those of reused steps included, in order of (step number, ordinal)."""
