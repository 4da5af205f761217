"""A span around each call of a skill, as a child of the engine's, where the process uses OpenTelemetry."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from runengine_client.skills.context import CallFacts
from runengine_client.skills.invocation import CallFailed, CallOutcome
from runengine_client.tracing import uses_opentelemetry

_SCOPE: Final = "runengine.skills"
_CODE_CHARACTERS_MAX: Final = 64


class CallSpan:
    """What became of a call, told to its span; without one nobody hears it."""

    __slots__ = ("_span",)

    def __init__(self, span: Any = None) -> None:
        """Tell this span of OpenTelemetry's."""
        self._span = span

    def ended(self, outcome: CallOutcome) -> None:
        """The call has this outcome; of a failure the code is said, and nothing that might quote the input."""
        if self._span is not None and isinstance(outcome, CallFailed):
            _fail(self._span, outcome.code)


_NOBODY: Final = CallSpan()


@contextmanager
def call_span(facts: CallFacts, headers: dict[str, str]) -> Iterator[CallSpan]:
    """A span for as long as the block runs, the current one for what the skill does; none without OpenTelemetry.

    Args:
        facts: the call.
        headers: `traceparent` and `tracestate` as the engine sent them, where it did.
    """
    if not uses_opentelemetry():
        yield _NOBODY
        return
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    span = trace.get_tracer(_SCOPE).start_span(
        f"skill {facts.skill_id}",
        context=TraceContextTextMapPropagator().extract(headers, Context()),
        kind=trace.SpanKind.SERVER,
        attributes={
            "runengine.run.id": facts.run_id,
            "runengine.workflow.name": facts.workflow_name,
            "runengine.step.id": facts.step_id,
            "runengine.skill.id": facts.skill_id,
            "runengine.attempt": facts.attempt,
        },
    )
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield CallSpan(span)
    except BaseException:
        _fail(span, "SKILL_CANCELLED")
        raise
    finally:
        span.end()


def _fail(span: Any, code: str) -> None:
    from opentelemetry.trace import StatusCode

    said = code if len(code) <= _CODE_CHARACTERS_MAX and code.isprintable() else "_OTHER"
    span.set_attribute("error.type", said)
    span.set_status(StatusCode.ERROR, said)
