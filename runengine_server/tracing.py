"""Part of the composition: traces by OpenTelemetry where OTEL_* ask for them, and nothing at all where they do not."""

import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.to_thread
import grpc
from starlette.types import ASGIApp

from runengine_client.tracing import (
    TracingUnavailableError,
    end_exporting,
    is_configured,
    service_resource,
    span_exporters,
)
from runengine_server.config import ConfigurationError
from runengine_server.domain.ids import RunId
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.ports.step_times import StepTimesReader
from runengine_server.ports.tracer import UNTRACED, Tracer

_SERVICE: Final = "runengine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """What the parts of an engine are traced with; each is what it was where tracing is off.

    Attributes:
        tracer: hears what becomes of runs.
        trace_id_of: the trace of a run, for log lines.
        interceptors: of the gRPC server.
        skills: a runner whose calls are recorded.
        http: an application whose requests are recorded.
        work: to be run until everything else has ended.
    """

    tracer: Tracer = UNTRACED
    trace_id_of: Callable[[RunId], str | None] = lambda _: None
    interceptors: tuple[grpc.aio.ServerInterceptor, ...] = ()
    skills: Callable[[SkillRunner], SkillRunner] = lambda runner: runner
    http: Callable[[ASGIApp], ASGIApp] = lambda app: app
    work: tuple[Callable[[], Coroutine[object, object, None]], ...] = ()


@asynccontextmanager
async def tracing(times: StepTimesReader) -> AsyncIterator[Tracing]:
    """Tracing as OTEL_* say; at the end what was recorded is exported, or given up after 3 s.

    Raises:
        ConfigurationError: an exporter is asked for that is not installed.
    """
    if not is_configured(os.environ):
        yield Tracing()
        return
    # Only now: this takes as long as importing gRPC does.
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from runengine_server.adapters.telemetry.tracing.http_requests import HttpRequests
    from runengine_server.adapters.telemetry.tracing.rpc_calls import RpcCalls
    from runengine_server.adapters.telemetry.tracing.run_tracer import RunTracer
    from runengine_server.adapters.telemetry.tracing.served_calls import ServedCalls
    from runengine_server.adapters.telemetry.tracing.skill_calls import TracedSkillRunner
    from runengine_server.adapters.telemetry.tracing.span_writer import ChosenIds, SpanWriter
    from runengine_server.adapters.telemetry.tracing.trace_ids import TraceIds

    try:
        exporters = span_exporters(os.environ)
    except TracingUnavailableError as error:
        raise ConfigurationError(str(error)) from None
    ids = ChosenIds()
    provider = TracerProvider(resource=service_resource(_SERVICE), id_generator=ids, shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    writer, trace_ids, calls = SpanWriter(provider, ids), TraceIds(), ServedCalls(provider)
    tracer = RunTracer(writer, times, trace_ids)
    try:
        yield Tracing(
            tracer=tracer,
            trace_id_of=trace_ids.of,
            interceptors=(RpcCalls(calls),),
            skills=lambda runner: TracedSkillRunner(runner, writer),
            http=lambda app: HttpRequests(app, calls),
            work=(tracer.run,),
        )
    finally:
        tracer.finish()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(end_exporting, provider)
