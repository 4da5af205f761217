"""The synchronous client: the asynchronous one on an event loop of its own, in a background thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

from anyio.from_thread import BlockingPortal, start_blocking_portal

from runengine_client.cache import CacheEntry, CacheFilter, CacheSelector, CacheStats, Invalidated
from runengine_client.client import RunEngineClient
from runengine_client.connection import TARGET_DEFAULT, TlsOptions, TokenSource
from runengine_client.handle import RunHandle
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.requests import RetryOptions, RunFilter, Span, TriggerOptions, UpdateOptions
from runengine_client.retry import Backoff
from runengine_client.states import StepStatus
from runengine_client.step_queue import Queue
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
from runengine_client.watch import WatchOptions
from runengine_client.watch_items import WatchItem

T = TypeVar("T")


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of RunEngineClient."""

    token: TokenSource | None
    tls: bool | TlsOptions
    allow_insecure_token: bool
    timeout_s: float
    backoff: Backoff
    channel_options: Sequence[tuple[str, str | int]]


class SyncRunHandle:
    """One run, bound to a synchronous client; see RunHandle."""

    def __init__(self, client: SyncRunEngineClient, handle: RunHandle) -> None:
        """Wrap a handle; nothing is sent."""
        self._client = client
        self._handle = handle
        self.id = handle.id
        self.accepted: Accepted | None = handle.accepted
        self.message = handle.message
        self.plan = handle.plan

    def watch(self, options: WatchOptions | None = None) -> Iterator[WatchItem]:
        """Every item of the run until it ends."""
        return self._client.watch(self.id, options=options)

    def wait(self) -> Run:
        """The run once it has ended, however it did."""
        return self._client._wait_for(self._handle.wait)

    def result(self) -> Run:
        """The run once it has completed; raises RunNotCompletedError otherwise."""
        return self._client._wait_for(self._handle.result)

    def get(self) -> Run:
        """The run as it is now."""
        return self._client.get_run(self.id)

    def steps(self, *, full: bool = False) -> tuple[Step, ...]:
        """Its steps in the order of the definition."""
        return tuple(self._client.list_steps(self.id, full=full))

    def artifacts(self) -> tuple[Artifact, ...]:
        """Its artifacts, those of reused steps too."""
        return tuple(self._client.list_artifacts(self.id))

    def cancel(self, reason: str = "") -> Cancelled:
        """Cancel it."""
        return self._client.cancel(self.id, reason)


class SyncRunEngineClient:
    """Starts, watches and rebuilds runs from ordinary threads; the methods are those of RunEngineClient.

    It may be shared by threads. Use it as `with`, or call `close`.
    """

    def __init__(self, target: str = TARGET_DEFAULT, **options: Unpack[ClientOptions]) -> None:
        """Prepare a client; the arguments are those of RunEngineClient."""
        self._client = RunEngineClient(target, **options)
        self._starting: AbstractContextManager[BlockingPortal] | None = start_blocking_portal()
        self._portal = self._starting.__enter__()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection and end the background thread; closing again does nothing."""
        starting, self._starting = self._starting, None
        if starting is not None:
            self._portal.call(self._client.close)
            starting.__exit__(None, None, None)

    def trigger(
        self, workflow_name: str, payload: Mapping[str, object] | None = None, **options: Unpack[TriggerOptions]
    ) -> str:
        """Start an initial run and return its id."""
        return self.start(workflow_name, payload, **options).id

    def start(
        self, workflow_name: str, payload: Mapping[str, object] | None = None, **options: Unpack[TriggerOptions]
    ) -> SyncRunHandle:
        """Start an initial run and return its handle."""
        return SyncRunHandle(self, self._wait_for(lambda: self._client.start(workflow_name, payload, **options)))

    def plan(
        self, workflow_name: str, payload: Mapping[str, object] | None = None, **options: Unpack[TriggerOptions]
    ) -> RebuildPlan:
        """What a trigger would execute and reuse; starts nothing."""
        return self._wait_for(lambda: self._client.plan(workflow_name, payload, **options))

    def trigger_update(
        self,
        base_run_id: str,
        change_type: str,
        payload: Mapping[str, object] | None = None,
        **options: Unpack[UpdateOptions],
    ) -> str:
        """Start a partial rebuild of a completed run and return the new run's id."""
        return self.start_update(base_run_id, change_type, payload, **options).id

    def start_update(
        self,
        base_run_id: str,
        change_type: str,
        payload: Mapping[str, object] | None = None,
        **options: Unpack[UpdateOptions],
    ) -> SyncRunHandle:
        """Start a partial rebuild and return the new run's handle."""
        call = self._client.start_update
        return SyncRunHandle(self, self._wait_for(lambda: call(base_run_id, change_type, payload, **options)))

    def plan_update(
        self,
        base_run_id: str,
        change_type: str,
        payload: Mapping[str, object] | None = None,
        **options: Unpack[UpdateOptions],
    ) -> RebuildPlan:
        """What an update would execute and reuse, step by step; starts nothing."""
        return self._wait_for(lambda: self._client.plan_update(base_run_id, change_type, payload, **options))

    def retry(self, run_id: str, **options: Unpack[RetryOptions]) -> SyncRunHandle:
        """Start a run that finishes a failed or cancelled one, and return its handle."""
        return SyncRunHandle(self, self._wait_for(lambda: self._client.retry(run_id, **options)))

    def plan_retry(self, run_id: str, **options: Unpack[RetryOptions]) -> RebuildPlan:
        """What a retry would execute and reuse; starts nothing."""
        return self._wait_for(lambda: self._client.plan_retry(run_id, **options))

    def cancel(self, run_id: str, reason: str = "") -> Cancelled:
        """Cancel a run; one that has ended stays as it is and the message says so."""
        return self._wait_for(lambda: self._client.cancel(run_id, reason))

    def run(self, run_id: str) -> SyncRunHandle:
        """A handle of an existing run; nothing is sent."""
        return SyncRunHandle(self, self._client.run(run_id))

    def get_run(self, run_id: str, *, full: bool = False) -> Run:
        """A run as it is now."""
        return self._wait_for(lambda: self._client.get_run(run_id, full=full))

    def list_runs(self, *, page_size: int = 0, **filters: Unpack[RunFilter]) -> Iterator[Run]:
        """Runs that match, newest first."""
        return self._iterate(self._client.list_runs(page_size=page_size, **filters))

    def list_steps(
        self, run_id: str, *, statuses: Sequence[StepStatus | str] = (), full: bool = False
    ) -> Iterator[Step]:
        """A run's steps in the order of the definition."""
        return self._iterate(self._client.list_steps(run_id, statuses=statuses, full=full))

    def list_artifacts(self, run_id: str, *, step_id: str = "") -> Iterator[Artifact]:
        """A run's artifacts, those of reused steps too."""
        return self._iterate(self._client.list_artifacts(run_id, step_id=step_id))

    def explain_step(self, run_id: str, step_id: str) -> StepExplanation:
        """Why a step ran, was reused, waits or failed, in sentences."""
        return self._wait_for(lambda: self._client.explain_step(run_id, step_id))

    def compare_runs(self, left_run_id: str, right_run_id: str) -> RunComparison:
        """Two runs of the same workflow step by step: what differs, and which steps are to blame."""
        return self._wait_for(lambda: self._client.compare_runs(left_run_id, right_run_id))

    def get_lineage(self, artifact_id: str, *, depth: int = 0) -> Lineage:
        """What an artifact was made from, so many generations back; 0 means 10, at most 100."""
        return self._wait_for(lambda: self._client.get_lineage(artifact_id, depth=depth))

    def get_queue(self) -> Queue:
        """How deep the tenant's queue is and how old, and which of its steps are delayed or stuck."""
        return self._wait_for(self._client.get_queue)

    def create_watch_token(self, run_id: str, *, ttl: Span | None = None) -> WatchToken:
        """A token that reads this run alone, for pages; see `RunEngineClient.create_watch_token`."""
        return self._wait_for(lambda: self._client.create_watch_token(run_id, ttl=ttl))

    def watch(
        self, run_id: str, *, after_sequence: int | None = None, options: WatchOptions | None = None
    ) -> Iterator[WatchItem]:
        """Every item of a run until it ends, once and in order; a generator that may be left at any point."""
        return self._iterate(self._client.watch(run_id, after_sequence=after_sequence, options=options))

    def register_workflow(
        self, workflow: workflow_pb2.Workflow, *, validate_only: bool = False
    ) -> workflow_pb2.RegisterWorkflowResponse:
        """Register a workflow version, or only check it."""
        return self._wait_for(lambda: self._client.register_workflow(workflow, validate_only=validate_only))

    def get_workflow(self, name: str, version: str = "") -> workflow_pb2.Workflow:
        """A workflow version as registered; empty means the highest."""
        return self._wait_for(lambda: self._client.get_workflow(name, version))

    def list_workflows(self, *, all_versions: bool = False) -> Iterator[workflow_pb2.Workflow]:
        """The workflows that can be triggered, by name."""
        return self._iterate(self._client.list_workflows(all_versions=all_versions))

    def get_cache_entry(self, key: str, *, include_output: bool = False) -> CacheEntry:
        """A cache entry by its key, `workflow:step:inputHash`."""
        return self._wait_for(lambda: self._client.get_cache_entry(key, include_output=include_output))

    def list_cache_entries(self, *, page_size: int = 0, **where: Unpack[CacheFilter]) -> Iterator[CacheEntry]:
        """Cache entries, newest first, without outputs."""
        return self._iterate(self._client.list_cache_entries(page_size=page_size, **where))

    def invalidate_cache(
        self, *, dry_run: bool = False, reason: str = "", **selector: Unpack[CacheSelector]
    ) -> Invalidated:
        """Remove the cache entries that match everything given, or with `dry_run` count them; audited."""
        return self._wait_for(lambda: self._client.invalidate_cache(dry_run=dry_run, reason=reason, **selector))

    def cache_stats(self, workflow_name: str = "") -> tuple[CacheStats, ...]:
        """How the cache served each step, by workflow and step; empty means every workflow."""
        return self._wait_for(lambda: self._client.cache_stats(workflow_name))

    def _wait_for(self, call: Callable[[], Awaitable[T]]) -> T:
        future = self._portal.start_task_soon(call)
        try:
            return future.result()
        except BaseException:
            # An interrupt of this thread (Ctrl-C) must end the call too; a future that is done ignores it.
            future.cancel()
            raise

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        done = object()

        async def following() -> T | object:
            return await anext(items, done)

        async def close() -> None:
            closing: Any = items  # the client's iterators are all generators
            await closing.aclose()

        try:
            while (item := self._wait_for(following)) is not done:
                yield item  # type: ignore[misc]
        finally:
            if self._starting is not None:
                self._portal.call(close)
