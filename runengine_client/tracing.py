"""OpenTelemetry where it is installed: the exporters that OTEL_* ask for, and the headers of the current span.

The client needs none of it. Nothing here is imported from OpenTelemetry before it is known to be wanted: importing it
takes as long as importing gRPC.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_OTLP: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_GROUP: Final = "opentelemetry_traces_exporter"
_EXPORT_LAST_S: Final = 3.0

_log = logging.getLogger("runengine.tracing")


class TracingUnavailableError(ValueError):
    """OTEL_* ask for what is not installed."""


def is_configured(environ: Mapping[str, str]) -> bool:
    """Whether spans are to be exported: an exporter or an OTLP endpoint is named, and the SDK is not disabled."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if named := environ.get("OTEL_TRACES_EXPORTER", "").strip().lower():
        return named != "none"
    return bool(environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


def span_exporters(environ: Mapping[str, str]) -> list[SpanExporter]:
    """The exporters that OTEL_TRACES_EXPORTER names (OTLP by default); they read the rest of OTEL_* themselves.

    Raises:
        TracingUnavailableError: there is no such exporter, or it is not installed.
    """
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    return [_exporter(name.strip(), environ) for name in named.split(",")]


def service_resource(name: str) -> Resource:
    """What spans say of this process: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, and this name without them."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: name}))
    return resource


def uses_opentelemetry() -> bool:
    """Whether anything in this process has spans."""
    return "opentelemetry.trace" in sys.modules


def current_headers() -> Mapping[str, str]:
    """The headers that continue the current span elsewhere; none where there is none."""
    if not uses_opentelemetry():
        return {}
    from opentelemetry.propagate import inject

    headers: dict[str, str] = {}
    inject(headers)
    return headers


@contextmanager
def exporting_spans(service: str) -> Iterator[None]:
    """This process's spans are exported as OTEL_* ask, under this name unless they give one; 3 s for the last of them.

    A program that has set OpenTelemetry up itself is left alone, and so is one that does not have it.
    """
    if not is_configured(os.environ):
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporters = span_exporters(os.environ)
    except (ImportError, TracingUnavailableError) as problem:
        _log.warning("Spans are not exported: %s", problem)
        yield
        return
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield
        return
    provider = TracerProvider(resource=service_resource(service), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        end_exporting(provider)


def end_exporting(provider: TracerProvider) -> None:
    """The last spans have been exported, or given up after 3 s: a collector that is away is asked for far longer."""
    last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    last.start()
    last.join(_EXPORT_LAST_S)


def _exporter(name: str, environ: Mapping[str, str]) -> SpanExporter:
    if name == "otlp":
        protocol = (
            environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"
        )
        name = _OTLP.get(protocol.strip(), protocol)
    for found in entry_points(group=_GROUP, name=name):
        exporter: SpanExporter = found.load()()
        return exporter
    raise TracingUnavailableError(
        f"OTEL_TRACES_EXPORTER: no exporter {name!r} is installed; "
        "for OTLP over gRPC: pip install opentelemetry-exporter-otlp-proto-grpc"
    )
