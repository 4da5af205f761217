"""The asynchronous client: one method per thing a caller wants from RunEngine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc
import grpc.aio

from runengine_client import cache, conversion, requests, step_queue
from runengine_client.cache import CacheEntry, CacheFilter, CacheSelector, CacheStats, Invalidated
from runengine_client.connection import TARGET_DEFAULT, ConnectionOptions, TlsOptions, TokenSource, open_channel
from runengine_client.errors import InternalError
from runengine_client.handle import RunHandle
from runengine_client.pb.runengine.v1 import (
    cache_pb2,
    cache_pb2_grpc,
    run_engine_pb2,
    run_engine_pb2_grpc,
    workflow_pb2,
    workflow_pb2_grpc,
)
from runengine_client.requests import RetryOptions, RunFilter, TriggerOptions, UpdateOptions
from runengine_client.retry import Backoff, call_with_retry
from runengine_client.states import StepStatus
from runengine_client.types import (
    Accepted,
    Artifact,
    Cancelled,
    Lineage,
    RebuildPlan,
    Run,
    RunComparison,
    Step,
    StepExplanation,
    WatchToken,
)
from runengine_client.watch import WatchOptions, watch_run
from runengine_client.watch_items import WatchItem

Q = TypeVar("Q")
A = TypeVar("A")
B = TypeVar("B", run_engine_pb2.TriggerResponse, run_engine_pb2.TriggerUpdateResponse, run_engine_pb2.RetryRunResponse)

CALL_TIMEOUT_S_DEFAULT = 30.0
BACKOFF_DEFAULT = Backoff()


class RunEngineClient:
    """Starts, watches and rebuilds runs over gRPC, from one asyncio event loop.

    Every call that changes something carries a request id, so that repeating it after a lost answer starts nothing
    twice; the client itself repeats calls that find no server. Use it as `async with`, or call `close`.
    """

    def __init__(
        self,
        target: str = TARGET_DEFAULT,
        *,
        token: TokenSource | None = None,
        tls: bool | TlsOptions = False,
        allow_insecure_token: bool = False,
        timeout_s: float = CALL_TIMEOUT_S_DEFAULT,
        backoff: Backoff = BACKOFF_DEFAULT,
        channel_options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        """Prepare a client; it connects with the first call.

        Args:
            target: gRPC target, such as `host:port`.
            token: bearer token, or what returns the current one.
            tls: True for the system's roots, or TlsOptions.
            allow_insecure_token: allow a token over plaintext to another machine.
            timeout_s: of one try of a call, in seconds.
            backoff: how often and how fast calls that find no server are repeated.
            channel_options: further gRPC channel arguments.

        Raises:
            InvalidArgumentError: a token would travel unencrypted (INSECURE_TOKEN).
        """
        self._connection = ConnectionOptions(
            target=target,
            token=token,
            tls=TlsOptions() if tls is True else tls or None,
            allow_insecure_token=allow_insecure_token,
            channel_options=channel_options,
        )
        self._timeout_s = timeout_s
        self._backoff = backoff
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls and watches under way end. Another call would open it again."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def trigger(
        self, workflow_name: str, payload: Mapping[str, object] | None = None, **options: Unpack[TriggerOptions]
    ) -> str:
        """Start an initial run and return its id.

        Raises:
            NotFoundError: no such workflow or version.
            InvalidArgumentError: the payload is not JSON that survives, or not what the workflow asks for.
        """
        return (await self.start(workflow_name, payload, **options)).id

    async def start(
        self, workflow_name: str, payload: Mapping[str, object] | None = None, **options: Unpack[TriggerOptions]
    ) -> RunHandle:
        """Start an initial run and return its handle; raises as `trigger`."""
        request = requests.trigger(workflow_name, payload, options)
        return self._started(await self._accept(self._engine().Trigger, request))

    async def plan(
        self, workflow_name: str, payload: Mapping[str, object] | None = None, **options: Unpack[TriggerOptions]
    ) -> RebuildPlan:
        """What a trigger would execute and reuse; starts nothing."""
        request = requests.trigger(workflow_name, payload, options, validate_only=True)
        return _plan_of(await self._accept(self._engine().Trigger, request))

    async def trigger_update(
        self,
        base_run_id: str,
        change_type: str,
        payload: Mapping[str, object] | None = None,
        **options: Unpack[UpdateOptions],
    ) -> str:
        """Start a partial rebuild of a completed run and return the new run's id.

        Raises:
            FailedPreconditionError: the base run is not completed, or under strict_impact more would change.
            InvalidArgumentError: the workflow knows no such change type; the message lists the known ones.
            AbortedError: the plan is not the expected one (PLAN_CHANGED).
        """
        return (await self.start_update(base_run_id, change_type, payload, **options)).id

    async def start_update(
        self,
        base_run_id: str,
        change_type: str,
        payload: Mapping[str, object] | None = None,
        **options: Unpack[UpdateOptions],
    ) -> RunHandle:
        """Start a partial rebuild and return the new run's handle; raises as `trigger_update`."""
        request = requests.trigger_update(base_run_id, (change_type, payload), options)
        return self._started(await self._accept(self._engine().TriggerUpdate, request))

    async def plan_update(
        self,
        base_run_id: str,
        change_type: str,
        payload: Mapping[str, object] | None = None,
        **options: Unpack[UpdateOptions],
    ) -> RebuildPlan:
        """What an update would execute and reuse, step by step; starts nothing."""
        request = requests.trigger_update(base_run_id, (change_type, payload), options, validate_only=True)
        return _plan_of(await self._accept(self._engine().TriggerUpdate, request))

    async def retry(self, run_id: str, **options: Unpack[RetryOptions]) -> RunHandle:
        """Start a run that finishes a failed or cancelled one, reusing what that has finished, and return its handle.

        Raises:
            NotFoundError: no such run.
            FailedPreconditionError: the run completed or has not ended (RUN_NOT_RETRYABLE).
            AbortedError: the plan is not the expected one (PLAN_CHANGED).
        """
        request = requests.retry(run_id, options)
        return self._started(await self._accept(self._engine().RetryRun, request))

    async def plan_retry(self, run_id: str, **options: Unpack[RetryOptions]) -> RebuildPlan:
        """What a retry would execute and reuse; starts nothing."""
        request = requests.retry(run_id, options, validate_only=True)
        return _plan_of(await self._accept(self._engine().RetryRun, request))

    async def cancel(self, run_id: str, reason: str = "") -> Cancelled:
        """Cancel a run; one that has ended stays as it is and the message says so."""
        request = run_engine_pb2.CancelRequest(run_id=run_id, reason=reason)
        return conversion.cancelled(await self._call(self._engine().Cancel, request))

    def run(self, run_id: str) -> RunHandle:
        """A handle of an existing run; nothing is sent."""
        return RunHandle(self, run_id)

    async def get_run(self, run_id: str, *, full: bool = False) -> Run:
        """A run as it is now; `full` adds its payloads.

        Raises:
            NotFoundError: no such run.
        """
        request = run_engine_pb2.GetRunRequest(run_id=run_id, view=requests.view(full=full))
        return conversion.run((await self._call(self._engine().GetRun, request)).run)

    async def list_runs(self, *, page_size: int = 0, **filters: Unpack[RunFilter]) -> AsyncIterator[Run]:
        """Runs that match, newest first, fetched page by page as they are consumed."""
        token = ""
        while True:
            page = await self._call(self._engine().ListRuns, requests.list_runs(filters, page_size, token))
            for message in page.runs:
                yield conversion.run(message)
            token = page.next_page_token
            if not token:
                return

    async def list_steps(
        self, run_id: str, *, statuses: Sequence[StepStatus | str] = (), full: bool = False
    ) -> AsyncIterator[Step]:
        """A run's steps in the order of the definition; `full` adds inputs, outputs and attempts."""
        token = ""
        while True:
            request = requests.list_steps(run_id, statuses, requests.view(full=full), token)
            page = await self._call(self._engine().ListSteps, request)
            for message in page.steps:
                yield conversion.step(message)
            token = page.next_page_token
            if not token:
                return

    async def list_artifacts(self, run_id: str, *, step_id: str = "") -> AsyncIterator[Artifact]:
        """A run's artifacts, those of reused steps too, in the order of its steps."""
        token = ""
        while True:
            request = run_engine_pb2.ListArtifactsRequest(run_id=run_id, page_token=token, step_id=step_id)
            page = await self._call(self._engine().ListArtifacts, request)
            for message in page.artifacts:
                yield conversion.artifact(message)
            token = page.next_page_token
            if not token:
                return

    async def explain_step(self, run_id: str, step_id: str) -> StepExplanation:
        """Why a step ran, was reused, waits or failed, in sentences."""
        request = run_engine_pb2.ExplainStepRequest(run_id=run_id, step_id=step_id)
        return conversion.explanation(await self._call(self._engine().ExplainStep, request))

    async def compare_runs(self, left_run_id: str, right_run_id: str) -> RunComparison:
        """Two runs of the same workflow step by step: what differs, and which steps are to blame.

        Raises:
            InvalidArgumentError: the runs are of different workflows.
        """
        request = run_engine_pb2.CompareRunsRequest(left_run_id=left_run_id, right_run_id=right_run_id)
        return conversion.comparison(await self._call(self._engine().CompareRuns, request))

    async def get_lineage(self, artifact_id: str, *, depth: int = 0) -> Lineage:
        """What an artifact was made from, so many generations back; 0 means 10, at most 100.

        Raises:
            NotFoundError: no such artifact.
        """
        request = run_engine_pb2.GetLineageRequest(artifact_id=artifact_id, depth=depth)
        return conversion.lineage(await self._call(self._engine().GetLineage, request))

    async def get_queue(self) -> step_queue.Queue:
        """How deep the tenant's queue is and how old, and which of its steps are delayed or stuck."""
        return step_queue.queue_of(await self._call(self._engine().GetQueue, step_queue.REQUEST))

    async def create_watch_token(self, run_id: str, *, ttl: requests.Span | None = None) -> WatchToken:
        """A token that reads this run alone, for `ttl` (1 s to 1 h; by default 15 min): for pages, in their URLs."""
        request = requests.create_watch_token(run_id, ttl)
        return conversion.watch_token(await self._call(self._engine().CreateWatchToken, request))

    def watch(
        self, run_id: str, *, after_sequence: int | None = None, options: WatchOptions | None = None
    ) -> AsyncIterator[WatchItem]:
        """Every item of a run until it ends, once and in order, across lost connections and restarts.

        Without `after_sequence` the first item is a snapshot; the last is always `RunEnded`.

        Raises:
            NotFoundError: no such run.
            UnavailableError: no server answered within the bounds of the options.
            WatchBrokenError: the server left out an event.
        """
        chosen = options or WatchOptions()
        if after_sequence is not None:
            chosen = replace(chosen, after_sequence=after_sequence)
        return watch_run(self._open_watch, run_id, chosen)

    async def register_workflow(
        self, workflow: workflow_pb2.Workflow, *, validate_only: bool = False
    ) -> workflow_pb2.RegisterWorkflowResponse:
        """Register a workflow version, or only check it; the answer's workflow has defaults and digest filled in.

        Raises:
            InvalidArgumentError: WORKFLOW_INVALID, with every error as a violation.
            AlreadyExistsError: this version exists with other content.
        """
        request = workflow_pb2.RegisterWorkflowRequest(workflow=workflow, validate_only=validate_only)
        return await self._call(self._registry().RegisterWorkflow, request)

    async def get_workflow(self, name: str, version: str = "") -> workflow_pb2.Workflow:
        """A workflow version as registered; empty means the highest."""
        request = workflow_pb2.GetWorkflowRequest(name=name, version=version)
        return (await self._call(self._registry().GetWorkflow, request)).workflow

    async def list_workflows(self, *, all_versions: bool = False) -> AsyncIterator[workflow_pb2.Workflow]:
        """The workflows that can be triggered, by name; the highest version of each, or all."""
        token = ""
        while True:
            request = workflow_pb2.ListWorkflowsRequest(page_token=token, all_versions=all_versions)
            page = await self._call(self._registry().ListWorkflows, request)
            for message in page.workflows:
                yield message
            token = page.next_page_token
            if not token:
                return

    async def get_cache_entry(self, key: str, *, include_output: bool = False) -> CacheEntry:
        """A cache entry by its key, `workflow:step:inputHash`.

        Raises:
            NotFoundError: no such entry.
        """
        request = cache_pb2.GetCacheEntryRequest(key=key, include_output=include_output)
        return cache.entry_of((await self._call(self._cache().GetCacheEntry, request)).entry)

    async def list_cache_entries(
        self, *, page_size: int = 0, **where: Unpack[CacheFilter]
    ) -> AsyncIterator[CacheEntry]:
        """Cache entries, newest first, without outputs, fetched page by page as they are consumed."""
        token = ""
        while True:
            request = cache_pb2.ListCacheEntriesRequest(page_size=page_size, page_token=token, **where)
            page = await self._call(self._cache().ListCacheEntries, request)
            for message in page.entries:
                yield cache.entry_of(message)
            token = page.next_page_token
            if not token:
                return

    async def invalidate_cache(
        self, *, dry_run: bool = False, reason: str = "", **selector: Unpack[CacheSelector]
    ) -> Invalidated:
        """Remove the cache entries that match everything given, or with `dry_run` count them; audited.

        Raises:
            InvalidArgumentError: nothing is given.
        """
        request = cache.invalidate_request(selector, dry_run=dry_run, reason=reason)
        answer = await self._call(self._cache().InvalidateCache, request)
        return Invalidated(count=answer.invalidated_count, sample_keys=tuple(answer.sample_keys))

    async def cache_stats(self, workflow_name: str = "") -> tuple[CacheStats, ...]:
        """How the cache served each step, by workflow and step; empty means every workflow."""
        request = cache_pb2.GetCacheStatsRequest(workflow_name=workflow_name)
        return tuple(map(cache.stats_of, (await self._call(self._cache().GetCacheStats, request)).stats))

    async def _call(self, method: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q) -> A:
        async def once() -> A:
            return await method(request, timeout=self._timeout_s)

        return await call_with_retry(once, self._backoff)

    async def _accept(self, method: grpc.aio.UnaryUnaryMultiCallable[Q, B], request: Q) -> Accepted:
        answer = await self._call(method, request)
        return conversion.accepted(answer)

    def _open_watch(
        self, request: run_engine_pb2.WatchRunRequest
    ) -> grpc.aio.UnaryStreamCall[run_engine_pb2.WatchRunRequest, run_engine_pb2.WatchRunResponse]:
        return self._engine().WatchRun(request)

    def _started(self, accepted: Accepted) -> RunHandle:
        return RunHandle(self, accepted.run_id, accepted)

    def _engine(self) -> run_engine_pb2_grpc.RunEngineAsyncStub:
        return run_engine_pb2_grpc.RunEngineStub(self._open())

    def _registry(self) -> workflow_pb2_grpc.WorkflowRegistryServiceAsyncStub:
        return workflow_pb2_grpc.WorkflowRegistryServiceStub(self._open())

    def _cache(self) -> cache_pb2_grpc.CacheAdminServiceAsyncStub:
        return cache_pb2_grpc.CacheAdminServiceStub(self._open())

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = open_channel(self._connection)
        return self._channel


def _plan_of(accepted: Accepted) -> RebuildPlan:
    if accepted.plan is None:
        raise InternalError("PLAN_MISSING", "The server validated the request but sent no plan")
    return accepted.plan
