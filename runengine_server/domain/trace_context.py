"""Where in which distributed trace something happens, in the form that W3C Trace Context gives it."""

from dataclasses import dataclass, replace
from typing import Final, Self

from runengine_server.domain.ids import RunId

_TRACE_ID: Final = slice(3, 35)
_SPAN_ID: Final = slice(36, 52)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """The values of the headers `traceparent` (version 00) and `tracestate` (empty without one)."""

    traceparent: str
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """The trace, 32 hexadecimal digits."""
        return self.traceparent[_TRACE_ID]

    @property
    def span_id(self) -> str:
        """The span, 16 hexadecimal digits."""
        return self.traceparent[_SPAN_ID]

    @property
    def is_sampled(self) -> bool:
        """Whether whoever began the trace records it."""
        return bool(int(self.traceparent[-2:], 16) & 1)

    def at(self, span_id: str) -> Self:
        """The same trace at another span."""
        return replace(self, traceparent=f"{self.traceparent[:36]}{span_id}{self.traceparent[52:]}")

    def encode(self) -> str:
        """As `decode` reads it: what a run keeps."""
        return f"{self.traceparent}\n{self.tracestate}" if self.tracestate else self.traceparent

    @classmethod
    def decode(cls, text: str) -> Self:
        """What `encode` wrote."""
        traceparent, _, tracestate = text.partition("\n")
        return cls(traceparent=traceparent, tracestate=tracestate)


def run_span(started_in: TraceContext, run_id: RunId) -> TraceContext:
    """A run's own span, in the trace of the call that started it: its id is the end of the run's, whoever asks."""
    return started_in.at(run_id.replace("-", "")[-16:])
