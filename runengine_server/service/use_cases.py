"""The use cases bound to what they need: the one Services that every surface talks to."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from runengine_server.domain.caller import Caller
from runengine_server.domain.run import Run
from runengine_server.domain.workflow import Workflow
from runengine_server.service.cancel_run import CancelRuns, cancel_run
from runengine_server.service.get_run import get_run
from runengine_server.service.get_workflow import get_workflow
from runengine_server.service.list_artifacts import list_artifacts
from runengine_server.service.list_runs import list_runs
from runengine_server.service.list_steps import list_steps
from runengine_server.service.list_workflows import list_workflows
from runengine_server.service.messages import (
    ArtifactPage,
    CancelAnswer,
    ListArtifactsRequest,
    ListRunsRequest,
    ListStepsRequest,
    RegisterWorkflowAnswer,
    RetryRunRequest,
    RunPage,
    StepPage,
    TriggerAnswer,
    TriggerRequest,
    TriggerUpdateRequest,
    WatchMessage,
    WatchRequest,
    WorkflowPage,
)
from runengine_server.service.register_workflow import Registry, register_workflow
from runengine_server.service.retry_run import retry_run
from runengine_server.service.run_lookup import ReadRuns
from runengine_server.service.start_run import StartRuns
from runengine_server.service.trigger_run import trigger_run
from runengine_server.service.trigger_update import trigger_update
from runengine_server.service.watch_run import WatchRuns, watch_run


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """Services over what the composition root made; each method is the function of the same name."""

    start: StartRuns
    read: ReadRuns
    watch: WatchRuns
    cancel: CancelRuns
    registry: Registry

    async def trigger_run(self, caller: Caller, request: TriggerRequest) -> TriggerAnswer:
        """See service/trigger_run.py."""
        return await trigger_run(self.start, caller, request)

    async def trigger_update(self, caller: Caller, request: TriggerUpdateRequest) -> TriggerAnswer:
        """See service/trigger_update.py."""
        return await trigger_update(self.start, caller, request)

    async def retry_run(self, caller: Caller, request: RetryRunRequest) -> TriggerAnswer:
        """See service/retry_run.py."""
        return await retry_run(self.start, caller, request)

    async def cancel_run(self, caller: Caller, run_id: str, reason: str) -> CancelAnswer:
        """See service/cancel_run.py."""
        return await cancel_run(self.cancel, caller, run_id, reason)

    async def get_run(self, caller: Caller, run_id: str, *, is_full: bool) -> Run:
        """See service/get_run.py."""
        return await get_run(self.read, caller, run_id, is_full=is_full)

    async def list_runs(self, caller: Caller, request: ListRunsRequest) -> RunPage:
        """See service/list_runs.py."""
        return await list_runs(self.read, caller, request)

    async def list_steps(self, caller: Caller, request: ListStepsRequest) -> StepPage:
        """See service/list_steps.py."""
        return await list_steps(self.read, caller, request)

    async def list_artifacts(self, caller: Caller, request: ListArtifactsRequest) -> ArtifactPage:
        """See service/list_artifacts.py."""
        return await list_artifacts(self.read, caller, request)

    def watch_run(self, caller: Caller, request: WatchRequest) -> AsyncIterator[WatchMessage]:
        """See service/watch_run.py."""
        return watch_run(self.watch, caller, request)

    async def register_workflow(
        self, caller: Caller, workflow: Workflow, *, validate_only: bool
    ) -> RegisterWorkflowAnswer:
        """See service/register_workflow.py."""
        return await register_workflow(self.registry, caller, workflow, validate_only=validate_only)

    async def get_workflow(self, caller: Caller, name: str, version: str) -> Workflow:
        """See service/get_workflow.py."""
        return await get_workflow(self.registry.store, caller, name, version)

    async def list_workflows(
        self, caller: Caller, *, page_size: int, page_token: str, all_versions: bool
    ) -> WorkflowPage:
        """See service/list_workflows.py."""
        return await list_workflows(
            self.registry.store, caller, page_size=page_size, page_token=page_token, all_versions=all_versions
        )
