"""Records each call of a skill, and sends it the context that its runner's spans continue."""

from collections.abc import Callable
from dataclasses import replace
from time import time_ns

from opentelemetry.trace import SpanKind

from runengine_server.adapters.telemetry.tracing import attributes
from runengine_server.adapters.telemetry.tracing.span_writer import FinishedSpan, SpanWriter, call_span, step_span
from runengine_server.domain.ids import SkillId
from runengine_server.domain.trace_context import TraceContext
from runengine_server.ports.skill_runner import (
    Failed,
    Outcome,
    ProgressListener,
    SkillAvailability,
    SkillCall,
    SkillRunner,
)


class TracedSkillRunner:
    """A SkillRunner with a span around each call of a traced run."""

    def __init__(self, runner: SkillRunner, writer: SpanWriter, now_ns: Callable[[], int] = time_ns) -> None:
        """Call the skills of `runner`."""
        self._runner = runner
        self._writer = writer
        self._now_ns = now_ns

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        """Run one attempt to its end (see the port)."""
        if call.trace is None:
            return await self._runner.execute(call, on_progress)
        began_ns = self._now_ns()
        outcome: Outcome | None = None
        try:
            outcome = await self._runner.execute(_continued(call, call.trace), on_progress)
            return outcome
        finally:
            self._record(call, call.trace, began_ns, outcome)

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        """Run an attempt that needs no waiting (see the port)."""
        if call.trace is None:
            return self._runner.execute_at_once(call)
        began_ns = self._now_ns()
        outcome = self._runner.execute_at_once(_continued(call, call.trace))
        if outcome is not None:
            self._record(call, call.trace, began_ns, outcome)
        return outcome

    async def abandon(self, call: SkillCall) -> None:
        """Tell the runner that nobody wants an attempt any more (see the port)."""
        await self._runner.abandon(call)

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        """What is known of a skill, at once."""
        return self._runner.availability(skill_id)

    def _record(self, call: SkillCall, started_in: TraceContext, began_ns: int, outcome: Outcome | None) -> None:
        error = None
        if outcome is None:
            error = "SKILL_CANCELLED"
        elif isinstance(outcome, Failed):
            error = outcome.failure.code
        span = FinishedSpan(
            name=f"call {call.skill_id}",
            parent=step_span(started_in, call.run_id, call.step_id, call.attempt),
            span_id=call_span(started_in, call.run_id, call.step_id, call.attempt).span_id,
            began_ns=began_ns,
            ended_ns=self._now_ns(),
            attributes=attributes.of_call(call, outcome),
            kind=SpanKind.CLIENT,
            error=error,
        )
        self._writer.write(span)


def _continued(call: SkillCall, started_in: TraceContext) -> SkillCall:
    return replace(call, trace=call_span(started_in, call.run_id, call.step_id, call.attempt))
