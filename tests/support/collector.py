"""An OTLP collector: keeps the spans that processes export to it over gRPC."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

_SERVER, _CLIENT = trace_pb2.Span.SPAN_KIND_SERVER, trace_pb2.Span.SPAN_KIND_CLIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedSpan:
    """A span as it arrived; ids as hexadecimal digits, times in seconds since 1970."""

    name: str
    service: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began_at: float
    ended_at: float
    attributes: Mapping[str, Any]
    is_error: bool
    links: tuple[tuple[str, str], ...]
    """Trace and span of each."""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens at `endpoint` inside `with`."""

    def __init__(self) -> None:
        """Prepare the server."""
        self._spans: list[CollectedSpan] = []
        self._arrived = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process export to here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    @property
    def spans(self) -> list[CollectedSpan]:
        """All that has arrived."""
        with self._arrived:
            return list(self._spans)

    def wait_for(
        self, name: str, attributes: Mapping[str, object] = MappingProxyType({}), *, timeout_s: float = 15.0
    ) -> CollectedSpan:
        """The first span with this name and at least these attributes, once it has arrived.

        Raises:
            AssertionError: it did not, in time.
        """

        def matching() -> list[CollectedSpan]:
            return [
                span
                for span in self._spans
                if span.name == name and attributes.items() <= dict(span.attributes).items()
            ]

        with self._arrived:
            has_come = self._arrived.wait_for(lambda: bool(matching()), timeout_s)
            assert has_come, f"no span {name!r} {attributes} among {sorted(span.name for span in self._spans)}"
            return matching()[0]

    def wait_until(self, is_true: Callable[[list[CollectedSpan]], bool], *, timeout_s: float = 15.0) -> None:
        """What has arrived is as wanted.

        Raises:
            AssertionError: it is not, in time.
        """
        with self._arrived:
            names = lambda: sorted(span.name for span in self._spans)  # noqa: E731
            assert self._arrived.wait_for(lambda: is_true(self._spans), timeout_s), names()

    def Export(  # noqa: N802 - the contract names it
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Keep what is exported."""
        arrived = [
            _collected(span, _values(resource.resource.attributes).get("service.name", ""))
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._arrived:
            self._spans += arrived
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def __enter__(self) -> Self:
        """Listen."""
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._server.stop(0).wait()


def _collected(span: trace_pb2.Span, service: str) -> CollectedSpan:
    return CollectedSpan(
        name=span.name,
        service=service,
        kind={_SERVER: "server", _CLIENT: "client"}.get(span.kind, "internal"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began_at=span.start_time_unix_nano / 1e9,
        ended_at=span.end_time_unix_nano / 1e9,
        attributes=_values(span.attributes),
        is_error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in attributes}
