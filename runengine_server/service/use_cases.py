"""The use cases bound to what they need: the one Services that every surface talks to."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.caller import Caller
from runengine_server.domain.lineage import Lineage
from runengine_server.domain.run import Run
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.cache_admin import FiledEntry, MatchingEntries
from runengine_server.service.cache_keys import ManageCache
from runengine_server.service.cancel_run import CancelRuns, cancel_run
from runengine_server.service.compare_runs import compare_runs
from runengine_server.service.create_watch_token import create_watch_token
from runengine_server.service.explain_step import explain_step
from runengine_server.service.get_artifact import OpenArtifacts, get_artifact
from runengine_server.service.get_cache_entry import get_cache_entry
from runengine_server.service.get_cache_stats import get_cache_stats
from runengine_server.service.get_lineage import get_lineage
from runengine_server.service.get_queue import get_queue
from runengine_server.service.get_run import get_run
from runengine_server.service.get_workflow import get_workflow
from runengine_server.service.invalidate_cache import invalidate_cache
from runengine_server.service.list_artifacts import list_artifacts
from runengine_server.service.list_cache_entries import list_cache_entries
from runengine_server.service.list_runs import list_runs
from runengine_server.service.list_steps import list_steps
from runengine_server.service.list_workflows import list_workflows
from runengine_server.service.messages import (
    ArtifactContent,
    ArtifactPage,
    CacheEntryPage,
    CacheStats,
    CancelAnswer,
    InvalidateCacheRequest,
    ListArtifactsRequest,
    ListCacheEntriesRequest,
    ListRunsRequest,
    ListStepsRequest,
    RegisterWorkflowAnswer,
    RetryRunRequest,
    RunComparison,
    RunPage,
    StepExplanation,
    StepPage,
    TriggerAnswer,
    TriggerRequest,
    TriggerUpdateRequest,
    WatchMessage,
    WatchRequest,
    WatchToken,
    WorkflowPage,
)
from runengine_server.service.open_artifact import open_artifact
from runengine_server.service.queue_overview import QueueOverview, QueueOverviews
from runengine_server.service.register_workflow import Registry, register_workflow
from runengine_server.service.retry_run import retry_run
from runengine_server.service.run_lookup import ReadRuns
from runengine_server.service.start_run import StartRuns
from runengine_server.service.trigger_run import trigger_run
from runengine_server.service.trigger_update import trigger_update
from runengine_server.service.watch_run import WatchRuns, watch_run
from runengine_server.service.watch_tokens import AdmitWatchers, admit_watcher


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """Services over what the composition root made; each method is the function of the same name."""

    start: StartRuns
    read: ReadRuns
    watch: WatchRuns
    watchers: AdmitWatchers
    artifacts: OpenArtifacts
    cancel: CancelRuns
    registry: Registry
    cache: ManageCache
    queue: QueueOverviews

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

    async def get_artifact(self, caller: Caller, artifact_id: str) -> Artifact:
        """See service/get_artifact.py."""
        return await get_artifact(self.artifacts, caller, artifact_id)

    async def open_artifact(self, caller: Caller, artifact_id: str) -> ArtifactContent:
        """See service/open_artifact.py."""
        return await open_artifact(self.artifacts, caller, artifact_id)

    async def explain_step(self, caller: Caller, run_id: str, step_id: str) -> StepExplanation:
        """See service/explain_step.py."""
        return await explain_step(self.read, caller, run_id, step_id)

    async def compare_runs(self, caller: Caller, left_run_id: str, right_run_id: str) -> RunComparison:
        """See service/compare_runs.py."""
        return await compare_runs(self.read, caller, left_run_id, right_run_id)

    async def get_lineage(self, caller: Caller, artifact_id: str, depth: int) -> Lineage:
        """See service/get_lineage.py."""
        return await get_lineage(self.read, caller, artifact_id, depth)

    async def get_queue(self, caller: Caller) -> QueueOverview:
        """See service/get_queue.py."""
        return await get_queue(self.queue, caller)

    def watch_run(self, caller: Caller, request: WatchRequest) -> AsyncIterator[WatchMessage]:
        """See service/watch_run.py."""
        return watch_run(self.watch, caller, request)

    async def create_watch_token(self, caller: Caller, run_id: str, ttl_s: float | None) -> WatchToken:
        """See service/create_watch_token.py."""
        return await create_watch_token(self.watchers, caller, run_id, ttl_s)

    async def admit_watcher(self, token: str) -> Caller:
        """See service/watch_tokens.py."""
        return await admit_watcher(self.watchers, token)

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

    async def get_cache_entry(self, caller: Caller, key: str, *, include_output: bool) -> FiledEntry:
        """See service/get_cache_entry.py."""
        return await get_cache_entry(self.cache, caller, key, include_output=include_output)

    async def list_cache_entries(self, caller: Caller, request: ListCacheEntriesRequest) -> CacheEntryPage:
        """See service/list_cache_entries.py."""
        return await list_cache_entries(self.cache, caller, request)

    async def invalidate_cache(self, caller: Caller, request: InvalidateCacheRequest) -> MatchingEntries:
        """See service/invalidate_cache.py."""
        return await invalidate_cache(self.cache, caller, request)

    async def get_cache_stats(self, caller: Caller, workflow_name: str) -> tuple[CacheStats, ...]:
        """See service/get_cache_stats.py."""
        return await get_cache_stats(self.cache, caller, workflow_name)
