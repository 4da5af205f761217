"""Turns what the core tells of traced runs into spans (docs/tracing.md is the contract).

Since when a step was ready is known to the database alone. It is read after the fact and for many steps at once, beside
the work: neither a step nor a turn waits for it. Whoever runs them, steps have its times: those of engines compare.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from time import time_ns
from typing import Final

import anyio
from opentelemetry.trace import get_current_span

from runengine_server.adapters.telemetry.tracing import attributes
from runengine_server.adapters.telemetry.tracing.span_writer import FinishedSpan, SpanWriter, step_span
from runengine_server.adapters.telemetry.tracing.trace_ids import TraceIds
from runengine_server.domain.cache import CacheAnswer
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.states import RunStatus
from runengine_server.domain.trace_context import TraceContext, run_span
from runengine_server.domain.workflow import StepDefinition
from runengine_server.ports.run_store import RunFacts
from runengine_server.ports.step_queue import AttemptFailed, Completion, EndedRun, Lease, StepFailed
from runengine_server.ports.step_times import StepTimes, StepTimesReader

WAITING_MAX: Final = 20_000
_BATCH_MAX: Final = 200
_STOPPED_MAX: Final = 1_000
_STATE_CHARACTERS_MAX: Final = 512
"""What W3C Trace Context asks everybody to hand on; it is kept with the run."""
_MILLISECOND: Final = timedelta(milliseconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)

_log = logging.getLogger("runengine.tracing")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settled:
    """A completion that was committed; its skill took so many seconds; `noticed_ns` is when we heard."""

    facts: RunFacts
    step: StepDefinition
    completion: Completion
    seconds: float
    noticed_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stopped:
    """A run that ended while steps of it may have been leased."""

    facts: RunFacts
    steps: Sequence[StepDefinition]


class RunTracer:
    """Tracer; spans of steps are written while `run` runs, and what is left then by `finish`."""

    is_on: Final = True

    def __init__(
        self, writer: SpanWriter, times: StepTimesReader, trace_ids: TraceIds, now_ns: Callable[[], int] = time_ns
    ) -> None:
        """Write to `writer`; times of steps come from `times`, and `trace_ids` remembers the traces of runs."""
        self._writer = writer
        self._times = times
        self._trace_ids = trace_ids
        self._now_ns = now_ns
        self._settled: deque[_Settled] = deque()
        self._stopped: deque[_Stopped] = deque()
        self._bell = anyio.Event()

    def current(self) -> TraceContext | None:
        """See the port."""
        context = get_current_span().get_span_context()
        if not context.is_valid:
            return None
        state = context.trace_state.to_header()
        return TraceContext(
            traceparent=f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}",
            tracestate=state if len(state) <= _STATE_CHARACTERS_MAX else "",
        )

    def run_met(self, facts: RunFacts) -> None:
        """See the port."""
        self._trace_ids.put(facts.run_id, _trace(facts))

    def cache_answered(
        self, facts: RunFacts, step: StepDefinition, lease: Lease, answer: CacheAnswer, seconds: float
    ) -> None:
        """See the port."""
        now_ns = self._now_ns()
        lookup = FinishedSpan(
            name="cache lookup",
            parent=step_span(_trace(facts), facts.run_id, step.step_id, lease.attempt),
            began_ns=now_ns - round(seconds * 1e9),
            ended_ns=now_ns,
            attributes={**attributes.of_step(facts, step, lease.attempt), **attributes.of_answer(answer)},
        )
        self._writer.write(lookup)

    def step_settled(self, facts: RunFacts, step: StepDefinition, completion: Completion, seconds: float) -> None:
        """See the port."""
        if len(self._settled) >= WAITING_MAX:
            return  # the database is slower than the runs: spans are lost, not time
        self._settled.append(
            _Settled(facts=facts, step=step, completion=completion, seconds=seconds, noticed_ns=self._now_ns())
        )
        self._bell.set()

    def run_ended(self, facts: RunFacts, ended: EndedRun, steps: Sequence[StepDefinition]) -> None:
        """See the port."""
        now_ns, error = self._now_ns(), None
        if ended.status is not RunStatus.COMPLETED:
            error = ended.failure.code if ended.failure is not None else f"RUN_{ended.status.name}"
            self._stopped.append(_Stopped(facts=facts, steps=steps))
            self._bell.set()
        run = FinishedSpan(
            name=f"run {facts.workflow_name}",
            parent=_trace(facts),
            span_id=run_span(_trace(facts), facts.run_id).span_id,
            began_ns=now_ns - ended.duration_ms * 1_000_000,
            ended_ns=now_ns,
            attributes=attributes.of_run(facts, ended),
            error=error,
            link=facts.base_span,
        )
        self._writer.write(run)

    async def run(self) -> None:
        """Spans of steps are written until cancelled."""
        while True:
            await self._bell.wait()
            self._bell = anyio.Event()
            try:
                while self._settled:
                    await self._write_settled()
                while self._stopped:
                    await self._write_stopped(self._stopped.popleft())
            except Exception:  # the boundary of what only records: no engine may end by it
                _log.exception("The spans of %d steps are lost", len(self._settled))
                self._settled.clear()

    def finish(self) -> None:
        """What waits is written, without the times that nobody can be asked for any more."""
        while self._settled:
            self._write_one(self._settled.popleft(), None)

    async def _write_settled(self) -> None:
        batch = list(islice(self._settled, _BATCH_MAX))
        found: Sequence[StepTimes | None] = [None] * len(batch)
        try:
            found = await self._times.settled([settled.completion.lease for settled in batch])
        except UnavailableError:
            _log.debug("The spans of %d steps do not say how long they waited", len(batch))
        for settled, times in zip(batch, found, strict=True):
            self._settled.popleft()
            self._write_one(settled, times)

    def _write_one(self, settled: _Settled, times: StepTimes | None) -> None:
        completion = settled.completion
        step = _step_span(
            settled.facts,
            settled.step,
            completion.lease.attempt,
            said=attributes.of_completion(completion),
            times=times or _as_noticed(settled),
            error=completion.failure.code if isinstance(completion, AttemptFailed | StepFailed) else None,
        )
        self._writer.write(step)

    async def _write_stopped(self, run: _Stopped) -> None:
        """Those that were leased when their run ended: nobody settles them."""
        try:
            stopped = await self._times.stopped(run.facts.run, _STOPPED_MAX)
        except UnavailableError:
            return
        for each in stopped:
            step = _step_span(
                run.facts,
                run.steps[each.step],
                each.attempt,
                said={},
                times=each.times,
                error="STEP_CANCELLED",
            )
            self._writer.write(step)


def _step_span(
    facts: RunFacts,
    step: StepDefinition,
    attempt: int,
    *,
    said: attributes.Attributes,
    times: StepTimes,
    error: str | None,
) -> FinishedSpan:
    """One attempt, from when its step was ready, or leased where that is all that is known."""
    began_at = times.leased_at
    all_said = {**attributes.of_step(facts, step, attempt), **said}
    if times.ready_at is not None:
        began_at = min(times.ready_at, times.leased_at)
        all_said["runengine.step.queue_wait_ms"] = (times.leased_at - began_at) // _MILLISECOND
    return FinishedSpan(
        name=f"step {step.step_id}",
        parent=run_span(_trace(facts), facts.run_id),
        span_id=step_span(_trace(facts), facts.run_id, step.step_id, attempt).span_id,
        began_ns=_ns(began_at),
        ended_ns=_ns(times.ended_at),
        attributes=all_said,
        error=error,
    )


def _as_noticed(settled: _Settled) -> StepTimes:
    """Where the database does not say more: a step is as long as its skill took."""
    ended_at = datetime.fromtimestamp(settled.noticed_ns / 1e9, UTC)
    return StepTimes(ready_at=None, leased_at=ended_at - timedelta(seconds=settled.seconds), ended_at=ended_at)


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND * 1000


def _trace(facts: RunFacts) -> TraceContext:
    assert facts.trace is not None, "only traced runs are told of"
    return facts.trace
