"""A span around each call that is served, as a child of the caller's; what runs in it can ask for its context."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from runengine_server.adapters.telemetry.tracing.attributes import Attributes
from runengine_server.adapters.telemetry.tracing.span_writer import SCOPE

_HEADERS: Final = ("traceparent", "tracestate")
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class ServedCalls:
    """Records calls with one provider, whichever surface they come by."""

    def __init__(self, provider: TracerProvider) -> None:
        """Record with this provider."""
        self._tracer = provider.get_tracer(SCOPE)

    @contextmanager
    def call(self, name: str, headers: Iterable[tuple[str, str]], said: Attributes) -> Iterator[Span]:
        """A span for as long as the block runs; it is the current one there."""
        with self.stream(name, headers, said) as span:
            token = attach(set_span_in_context(span))
            try:
                yield span
            finally:
                detach(token)

    @contextmanager
    def stream(self, name: str, headers: Iterable[tuple[str, str]], said: Attributes) -> Iterator[Span]:
        """A span for as long as the block runs, which may be a generator: the span is nobody's current one."""
        carried = {name: value for name, value in headers if name in _HEADERS}
        parent = _PROPAGATOR.extract(carried, Context()) if carried else Context()
        span = self._tracer.start_span(name, context=parent, kind=SpanKind.SERVER, attributes=said)
        try:
            yield span
        finally:
            span.end()


def failed(span: Span, error: str) -> None:
    """The server is to blame for how the call ended."""
    span.set_attribute("error.type", error)
    span.set_status(StatusCode.ERROR)
