"""Decides what an Execute means: start a call, join the one in flight, or repeat the success it had."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import anyio

from runengine_client.skills.artifact_folder import ArtifactStore
from runengine_client.skills.call_ledger import CallLedger, LedgerEvent
from runengine_client.skills.definition import Skill
from runengine_client.skills.invocation import CallFailed, CallSucceeded
from runengine_client.skills.replay_store import CallKey, FinishedCall, ReplayStore
from runengine_client.skills.running_call import CallOrder, RunningCall

_log = logging.getLogger("runengine.skills")

# A call this close to its deadline has timed out for the engine: its next attempt must not join it.
_TIMED_OUT_S: Final = 0.25
_TOKENS_MAX: Final = 100_000


class Refusal(Enum):
    """Why a call is not taken on."""

    STALE_TOKEN = "stale fencing token"
    OTHER_CONTENT = "other content"
    FULL = "full"
    STOPPING = "stopping"


class CallRefusedError(Exception):
    """The call is not taken on; nothing was started."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        """Say why."""
        super().__init__(message)
        self.refusal = refusal
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A new call."""

    call: RunningCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """The call with this key that was already in flight."""

    call: RunningCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The success this key had before."""

    finished: FinishedCall


Admission = Started | Attached | Replayed


class CallRegistry:
    """All calls of a server; at most one in flight for each tenant and idempotency key."""

    def __init__(
        self,
        *,
        artifact_store: ArtifactStore,
        ledger: CallLedger,
        replays: ReplayStore,
        tasks: asyncio.TaskGroup,
        threads_max: int,
        calls_max: int,
    ) -> None:
        """Start empty.

        Args:
            artifact_store: where artifacts go.
            ledger: where calls are recorded.
            replays: where successes are remembered.
            tasks: where calls run; not anyio's, which takes four times as long to start one.
            threads_max: worker threads of all skills together.
            calls_max: calls taken on and not finished, running and waiting.
        """
        self._artifact_store = artifact_store
        self._ledger = ledger
        self._replays = replays
        self._tasks = tasks
        self._threads = anyio.CapacityLimiter(threads_max)
        self._calls_max = calls_max
        self._slots: dict[str, anyio.Semaphore] = {}
        self._in_flight: dict[CallKey, RunningCall] = {}
        self._lingering: dict[CallKey, RunningCall] = {}
        self._tokens: OrderedDict[CallKey, int] = OrderedDict()
        self._is_stopping = False
        self._finished: anyio.Event | None = None

    def admit(self, order: CallOrder, skill: Skill) -> Admission:
        """The call runs, or ran; for a started or attached one the caller must `listen` at once.

        Idempotent by: tenant and idempotency key.

        Raises:
            CallRefusedError: a later lease has been seen, the key belongs to other content, or there is no room.
        """
        key = (order.facts.tenant, order.facts.idempotency_key)
        self._check_token(key, order.facts.fencing_token)
        call = self._in_flight.get(key)
        if call is not None:
            _check_content(order, call.skill.skill_id, call.order.input_hash)
            if call.remaining_s > _TIMED_OUT_S:
                call.extend(order.timeout_s)
                self._ledger.record(LedgerEvent.ATTACHED, order.facts)
                return Attached(call=call)
            call.cancel(CallFailed(code="SKILL_TIMEOUT", message="The skill did not finish in time", retryable=True))
        finished = self._replays.get(key)
        if finished is not None:
            _check_content(order, finished.skill_id, finished.input_hash)
            self._ledger.record(LedgerEvent.REPLAYED, order.facts)
            return Replayed(finished=finished)
        return Started(call=self._start(key, order, skill))

    def abandon(self, order: CallOrder) -> CallFailed:
        """Nobody wants the call any more: it is cancelled if it is in flight and no later lease has been seen.

        Raises nothing and starts nothing; returns what the call is answered with.
        """
        key = (order.facts.tenant, order.facts.idempotency_key)
        why = CallFailed(code="RUN_CANCELLED", message="The call was cancelled", retryable=False)
        call = self._in_flight.get(key)
        if call is not None and order.facts.fencing_token >= self._tokens.get(key, 0):
            call.cancel(why)
        return why

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """The work runs beside the calls; whoever starts it ends it before the server stops, and it raises nothing."""
        self._tasks.create_task(work)

    async def drain(self, timeout_s: float) -> None:
        """Nothing is admitted any more and no call is in flight; those engines listen to had this long to finish."""
        self._is_stopping = True
        with anyio.move_on_after(timeout_s):
            while any(call.has_listeners for call in self._in_flight.values()):
                self._finished = anyio.Event()
                await self._finished.wait()
        stopping = CallFailed(code="SKILL_UNAVAILABLE", message="The skill's runner is stopping", retryable=True)
        for call in tuple(self._in_flight.values()):
            call.cancel(stopping)

    def _start(self, key: CallKey, order: CallOrder, skill: Skill) -> RunningCall:
        if self._is_stopping:
            raise CallRefusedError(Refusal.STOPPING, "The runner is stopping")
        if len(self._in_flight) >= self._calls_max:
            raise CallRefusedError(Refusal.FULL, f"The runner has {self._calls_max} calls already")
        call = RunningCall(
            order,
            skill,
            artifact_store=self._artifact_store,
            ledger=self._ledger,
            predecessor=self._lingering.get(key),
        )
        call.when_finished(self._settle)
        self._in_flight[key] = call
        self._tasks.create_task(self._run(key, call))
        return call

    async def _run(self, key: CallKey, call: RunningCall) -> None:
        try:
            await call.run(self._slots_of(call.skill), self._threads)
        except Exception:
            # The boundary of one call: a defect here must not end the others.
            _log.exception("Skill call broke: runId=%s, stepId=%s", call.facts.run_id, call.facts.step_id)
            call.cancel(CallFailed(code="SKILL_FAILED", message="The skill's runner broke", retryable=True))
        finally:
            if self._lingering.get(key) is call:
                del self._lingering[key]

    def _settle(self, call: RunningCall) -> None:
        key = (call.facts.tenant, call.facts.idempotency_key)
        self._in_flight.pop(key, None)
        if call.is_function_running:
            self._lingering[key] = call
        if isinstance(call.outcome, CallSucceeded):
            finished = FinishedCall(
                skill_id=call.skill.skill_id,
                input_hash=call.order.input_hash,
                skill_version=call.skill.version,
                cache_version=call.skill.cache_version,
                success=call.outcome,
            )
            self._replays.put(key, finished)
        if self._finished is not None:
            self._finished.set()

    def _slots_of(self, skill: Skill) -> anyio.Semaphore | None:
        if not skill.max_concurrency:
            return None
        slots = self._slots.get(skill.skill_id)
        if slots is None:
            slots = self._slots[skill.skill_id] = anyio.Semaphore(skill.max_concurrency, fast_acquire=True)
        return slots

    def _check_token(self, key: CallKey, token: int) -> None:
        highest = self._tokens.get(key, token)
        if token < highest:
            raise CallRefusedError(Refusal.STALE_TOKEN, f"Fencing token {token} is older than {highest}")
        self._tokens[key] = token
        self._tokens.move_to_end(key)
        if len(self._tokens) > _TOKENS_MAX:
            self._tokens.popitem(last=False)


def _check_content(order: CallOrder, skill_id: str, input_hash: str) -> None:
    if order.facts.skill_id != skill_id or order.input_hash != input_hash:
        raise CallRefusedError(Refusal.OTHER_CONTENT, "The idempotency key belongs to another skill or input")
