"""One call in flight: runs the function, collects what it says, and tells every engine that listens.

The call is its own task. Engines come and go (`listen`, `leave`): while nobody listens a grace period runs, after
which the call is cancelled. A worker thread cannot be stopped, so a cancelled call has its outcome at once, but keeps
its slot and is not `is_ended` until the thread returns.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
import anyio.to_thread

from runengine_client.skills.artifact_folder import Artifact, ArtifactStore
from runengine_client.skills.call_ledger import CallLedger, LedgerEvent
from runengine_client.skills.context import AsyncSkillContext, CallFacts, SkillContext, trace_id_of
from runengine_client.skills.definition import Skill
from runengine_client.skills.errors import SkillCancelledError, SkillError
from runengine_client.skills.invocation import CallFailed, CallOutcome, CallSucceeded, encode_output, failure_of
from runengine_client.skills.listener import Listener, Progress
from runengine_client.skills.spans import call_span

ARTIFACTS_MAX: Final = 1000

_log = logging.getLogger("runengine.skills")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrder:
    """What an engine asks for, checked: `facts.idempotency_key` names it, `input` is the parsed `input_json`.

    `traceparent` and `tracestate`: the headers of W3C Trace Context, empty where the run is not traced.
    """

    facts: CallFacts
    input: dict[str, Any]
    input_hash: str
    timeout_s: float
    traceparent: str = ""
    tracestate: str = ""

    @property
    def trace_headers(self) -> dict[str, str]:
        """Both headers, by name."""
        return {"traceparent": self.traceparent, "tracestate": self.tracestate}


class RunningCall:
    """A call from its acceptance to the end of its function; the `CallHandle` of its context."""

    def __init__(
        self,
        order: CallOrder,
        skill: Skill,
        *,
        artifact_store: ArtifactStore,
        ledger: CallLedger,
        predecessor: "RunningCall | None" = None,
    ) -> None:
        """Prepare the call; `run` runs it.

        Args:
            order: what to run.
            skill: the function.
            artifact_store: where its artifacts go.
            ledger: where its start and end are recorded.
            predecessor: a call with the same key that is over, but whose thread still runs; waited for.
        """
        self.order = order
        self.skill = skill
        self.artifacts: list[Artifact] = []
        self.progress: Progress | None = None
        self.outcome: CallOutcome | None = None
        self.is_ended = False
        self.is_function_running = False
        self._artifact_store = artifact_store
        self._ledger = ledger
        self._predecessor = predecessor
        self._ended: anyio.Event | None = None
        self._loop = asyncio.get_running_loop()
        self._scope = anyio.CancelScope()
        self._is_cached = True
        self._is_cancelled = False
        self._listeners: set[Listener] = set()
        self._grace_timer: asyncio.TimerHandle | None = None
        self._on_finished: Callable[[RunningCall], None] = lambda _: None
        self._deadline_at = self._loop.time() + order.timeout_s
        self._deadline_timer = self._loop.call_at(self._deadline_at, self._time_out)

    # What the context asks (any thread).

    @property
    def facts(self) -> CallFacts:
        """Which attempt started it."""
        return self.order.facts

    @property
    def deadline(self) -> datetime:
        """When it must have ended, UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.remaining_s)

    @property
    def traceparent(self) -> str:
        """The call in the engine's trace, empty where there is none."""
        return self.order.traceparent

    @property
    def is_cancelled(self) -> bool:
        """Whether its outcome is of no use any more."""
        return self._is_cancelled

    @property
    def artifact_store(self) -> ArtifactStore:
        """Where its artifacts go."""
        return self._artifact_store

    def add_artifact(self, artifact: Artifact) -> None:
        """Every listener will be sent the artifact."""
        if len(self.artifacts) >= ARTIFACTS_MAX:
            raise SkillError("TOO_MANY_ARTIFACTS", f"A call publishes at most {ARTIFACTS_MAX} artifacts")
        self.artifacts.append(artifact)
        self._loop.call_soon_threadsafe(self._notify)

    def report_progress(self, fraction: float, message: str, reported_at: datetime) -> None:
        """Listeners will be sent the latest progress."""
        self.progress = Progress(fraction=fraction, message=message, reported_at=reported_at)
        self._loop.call_soon_threadsafe(self._notify)

    def do_not_cache(self) -> None:
        """The result will say that it must not be cached."""
        self._is_cached = False

    # What the server does (event loop only).

    @property
    def remaining_s(self) -> float:
        """Seconds to the deadline."""
        return self._deadline_at - self._loop.time()

    @property
    def has_listeners(self) -> bool:
        """Whether an engine is connected."""
        return bool(self._listeners)

    def when_finished(self, callback: Callable[["RunningCall"], None]) -> None:
        """The callback will be called once, as soon as the outcome is known."""
        self._on_finished = callback

    def extend(self, timeout_s: float) -> None:
        """The deadline is at least this many seconds away."""
        deadline_at = self._loop.time() + timeout_s
        if self.outcome is None and deadline_at > self._deadline_at:
            self._deadline_timer.cancel()
            self._deadline_at = deadline_at
            self._deadline_timer = self._loop.call_at(deadline_at, self._time_out)

    def listen(self, wake: Callable[[], None]) -> Listener:
        """One more engine listens, and is woken when there is something to tell it; a grace period ends."""
        listener = Listener(self, wake)
        self._listeners.add(listener)
        if self._grace_timer is not None:
            self._grace_timer.cancel()
            self._grace_timer = None
        return listener

    def leave(self, listener: Listener, grace_s: float) -> None:
        """One engine less; if it was the last, the call has this many seconds to finish or be attached to."""
        self._listeners.discard(listener)
        if not self._listeners and self.outcome is None:
            self._grace_timer = self._loop.call_later(grace_s, self._abandon)

    def cancel(self, why: CallFailed) -> None:
        """The call has failed this way, and its function has been told to stop; nothing if it was finished."""
        self._is_cancelled = True
        self._finish(why)
        self._scope.cancel()

    async def run(self, slots: anyio.Semaphore | None, threads: anyio.CapacityLimiter) -> None:
        """The call is over, function and all; its outcome is known before.

        Args:
            slots: the skill's own limit, None without one.
            threads: the server's worker threads.
        """
        try:
            with self._scope:
                if self._predecessor is not None:
                    await self._predecessor.wait_until_ended()
                    self._predecessor = None
                if slots is None:
                    await self._run_function(threads)
                else:
                    async with slots:
                        await self._run_function(threads)
        finally:
            self.is_function_running = False
            self.is_ended = True
            if self._ended is not None:
                self._ended.set()

    async def wait_until_ended(self) -> None:
        """The function has returned, also that of a call whose outcome was known long before."""
        if not self.is_ended:
            self._ended = self._ended or anyio.Event()
            await self._ended.wait()

    async def _run_function(self, threads: anyio.CapacityLimiter) -> None:
        facts = self.order.facts
        fields = (facts.skill_id, facts.run_id, facts.step_id, facts.attempt, trace_id_of(self.order.traceparent))
        _log.info("Skill started: skillId=%s, runId=%s, stepId=%s, attempt=%d, traceId=%s", *fields)
        started_at = self._loop.time()
        self._ledger.record(LedgerEvent.STARTED, facts)
        self.is_function_running = True
        with call_span(facts, self.order.trace_headers) as span:
            outcome = await self._outcome(threads)
            span.ended(outcome)
        duration_ms = round((self._loop.time() - started_at) * 1000)
        code = outcome.code if isinstance(outcome, CallFailed) else "OK"
        _log.info(
            "Skill ended: skillId=%s, runId=%s, stepId=%s, attempt=%d, traceId=%s, durationMs=%d, outcome=%s",
            *fields,
            duration_ms,
            code,
        )
        self.is_function_running = False
        self._finish(outcome)

    async def _outcome(self, threads: anyio.CapacityLimiter) -> CallOutcome:
        try:
            if self.skill.is_async:
                output = await self.skill.function(self.order.input, AsyncSkillContext(self))
                output_json = encode_output(output)
            else:
                output_json = await anyio.to_thread.run_sync(self._call_function, limiter=threads)
        except (Exception, SkillCancelledError, SystemExit) as problem:
            if self._is_cancelled:
                return CallFailed(code="SKILL_CANCELLED", message="The skill stopped after it was cancelled")
            return failure_of(problem, self.order.facts)
        artifacts = tuple(self.artifacts)
        return CallSucceeded(output_json=output_json, artifacts=artifacts, do_not_cache=not self._is_cached)

    def _call_function(self) -> bytes:
        return encode_output(self.skill.function(self.order.input, SkillContext(self)))

    def _finish(self, outcome: CallOutcome) -> None:
        if self.outcome is not None:
            return
        self.outcome = outcome
        self._deadline_timer.cancel()
        if self._grace_timer is not None:
            self._grace_timer.cancel()
        match outcome:
            case CallSucceeded(output_json=output_json):
                digest = hashlib.sha256(output_json).hexdigest()
                self._ledger.record(LedgerEvent.SUCCEEDED, self.order.facts, digest=digest)
            case CallFailed(code=code):
                self._ledger.record(LedgerEvent.FAILED, self.order.facts, code=code)
        self._on_finished(self)
        self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener.wake()

    def _time_out(self) -> None:
        self.cancel(CallFailed(code="SKILL_TIMEOUT", message="The skill did not finish in time", retryable=True))

    def _abandon(self) -> None:
        facts = self.order.facts
        _log.warning(
            "Skill abandoned: skillId=%s, runId=%s, stepId=%s, attempt=%d",
            facts.skill_id,
            facts.run_id,
            facts.step_id,
            facts.attempt,
        )
        self.cancel(CallFailed(code="SKILL_CANCELLED", message="No engine waited for the skill", retryable=True))
