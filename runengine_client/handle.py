"""A run in hand: what its caller can do with it next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from runengine_client.errors import RunEngineError
from runengine_client.states import RunStatus
from runengine_client.types import Accepted, Artifact, Cancelled, RebuildPlan, Run, Step
from runengine_client.watch import WatchOptions
from runengine_client.watch_items import RunEnded, WatchItem


class RunNotCompletedError(RunEngineError):
    """The run ended, but did not complete; `run` is its final state."""

    def __init__(self, run: Run) -> None:
        """Say how the run ended."""
        cause = f": {run.error.code} {run.error.message}".rstrip() if run.error else ""
        step = f" at step {run.failed_step}" if run.failed_step else ""
        super().__init__(f"RUN_{run.status.upper()}", f"Run {run.id} {run.status}{step}{cause}")
        self.run = run


class RunCalls(Protocol):
    """What a handle asks of its client; `RunEngineClient` says what each does."""

    def watch(self, run_id: str, *, options: WatchOptions | None = None) -> AsyncIterator[WatchItem]:
        """Every item of a run until it ends."""

    async def get_run(self, run_id: str) -> Run:
        """A run as it is now."""

    def list_steps(self, run_id: str, *, full: bool = False) -> AsyncIterator[Step]:
        """A run's steps."""

    def list_artifacts(self, run_id: str) -> AsyncIterator[Artifact]:
        """A run's artifacts."""

    async def cancel(self, run_id: str, reason: str = "") -> Cancelled:
        """Cancel a run."""


class RunHandle:
    """One run, bound to a client; `accepted` is the server's answer where this client started it."""

    def __init__(self, client: RunCalls, run_id: str, accepted: Accepted | None = None) -> None:
        """Bind a run to a client; nothing is sent."""
        self._client = client
        self.id = run_id
        self.accepted = accepted

    @property
    def message(self) -> str:
        """The server's words, such as `Update run queued - 4 steps will be re-executed`; empty if not started here."""
        return self.accepted.message if self.accepted else ""

    @property
    def plan(self) -> RebuildPlan | None:
        """What the run executes and reuses; always known for an update started here."""
        return self.accepted.plan if self.accepted else None

    def watch(self, options: WatchOptions | None = None) -> AsyncIterator[WatchItem]:
        """Every item of the run until it ends; see `RunEngineClient.watch`."""
        return self._client.watch(self.id, options=options)

    async def wait(self) -> Run:
        """The run once it has ended, however it did."""
        async for item in self._client.watch(self.id):
            if isinstance(item, RunEnded):
                return item.run
        raise AssertionError("a watch ends with the run's end or an error")

    async def result(self) -> Run:
        """The run once it has completed.

        Raises:
            RunNotCompletedError: it failed or was cancelled; the error carries the run.
        """
        run = await self.wait()
        if run.status is not RunStatus.COMPLETED:
            raise RunNotCompletedError(run)
        return run

    async def get(self) -> Run:
        """The run as it is now."""
        return await self._client.get_run(self.id)

    async def steps(self, *, full: bool = False) -> tuple[Step, ...]:
        """Its steps in the order of the definition; `full` adds inputs, outputs and attempts."""
        return tuple([step async for step in self._client.list_steps(self.id, full=full)])

    async def artifacts(self) -> tuple[Artifact, ...]:
        """Its artifacts, those of reused steps too."""
        return tuple([artifact async for artifact in self._client.list_artifacts(self.id)])

    async def cancel(self, reason: str = "") -> Cancelled:
        """Cancel it; a run that has ended stays as it is."""
        return await self._client.cancel(self.id, reason)
