"""The use cases every surface offers, in one value that the composition root fills."""

from collections.abc import AsyncIterator
from typing import Protocol

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.caller import Caller
from runengine_server.domain.lineage import Lineage
from runengine_server.domain.run import Run
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.cache_admin import FiledEntry, MatchingEntries
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
from runengine_server.service.queue_overview import QueueOverview


class Services(Protocol):
    """Every method authorises the caller, validates, and raises RunEngineError for what a caller can understand."""

    async def trigger_run(self, caller: Caller, request: TriggerRequest) -> TriggerAnswer:
        """Plan and start an initial run."""

    async def trigger_update(self, caller: Caller, request: TriggerUpdateRequest) -> TriggerAnswer:
        """Plan and start a partial rebuild of a completed run."""

    async def retry_run(self, caller: Caller, request: RetryRunRequest) -> TriggerAnswer:
        """Plan and start a run that finishes a failed or cancelled one."""

    async def cancel_run(self, caller: Caller, run_id: str, reason: str) -> CancelAnswer:
        """Cancel a run; idempotent."""

    async def get_run(self, caller: Caller, run_id: str, *, is_full: bool) -> Run:
        """Read one run."""

    async def list_runs(self, caller: Caller, request: ListRunsRequest) -> RunPage:
        """Read runs, newest first."""

    async def list_steps(self, caller: Caller, request: ListStepsRequest) -> StepPage:
        """Read a run's steps."""

    async def list_artifacts(self, caller: Caller, request: ListArtifactsRequest) -> ArtifactPage:
        """Read a run's artifacts, those of reused steps included."""

    async def get_artifact(self, caller: Caller, artifact_id: str) -> Artifact:
        """Read one artifact."""

    async def open_artifact(self, caller: Caller, artifact_id: str) -> ArtifactContent:
        """Read one artifact and open its bytes."""

    async def explain_step(self, caller: Caller, run_id: str, step_id: str) -> StepExplanation:
        """Say why a step is as it is."""

    async def compare_runs(self, caller: Caller, left_run_id: str, right_run_id: str) -> RunComparison:
        """Compare two runs of a workflow step by step."""

    async def get_lineage(self, caller: Caller, artifact_id: str, depth: int) -> Lineage:
        """Say what an artifact was made from, some generations back; 0 means ten."""

    async def get_queue(self, caller: Caller) -> QueueOverview:
        """Say how deep the tenant's queue is."""

    def watch_run(self, caller: Caller, request: WatchRequest) -> AsyncIterator[WatchMessage]:
        """Follow a run's events to its end."""

    async def create_watch_token(self, caller: Caller, run_id: str, ttl_s: float | None) -> WatchToken:
        """Make a token that reads one run; None is 15 minutes."""

    async def admit_watcher(self, token: str) -> Caller:
        """Who the bearer of a watch token is; not for a caller: it makes one."""

    async def register_workflow(
        self, caller: Caller, workflow: Workflow, *, validate_only: bool
    ) -> RegisterWorkflowAnswer:
        """Check a workflow and make it available."""

    async def get_workflow(self, caller: Caller, name: str, version: str) -> Workflow:
        """Read a workflow; empty version means the highest."""

    async def list_workflows(
        self, caller: Caller, *, page_size: int, page_token: str, all_versions: bool
    ) -> WorkflowPage:
        """Read workflows by name."""

    async def get_cache_entry(self, caller: Caller, key: str, *, include_output: bool) -> FiledEntry:
        """Read one cache entry."""

    async def list_cache_entries(self, caller: Caller, request: ListCacheEntriesRequest) -> CacheEntryPage:
        """Read cache entries, newest first."""

    async def invalidate_cache(self, caller: Caller, request: InvalidateCacheRequest) -> MatchingEntries:
        """Remove cache entries from both tiers, or count what would go."""

    async def get_cache_stats(self, caller: Caller, workflow_name: str) -> tuple[CacheStats, ...]:
        """Count hits and misses by workflow and step."""
