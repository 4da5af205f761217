"""Spans made of what the core tells, and the contract that docs/tracing.md is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from runengine_client.tracing import is_configured
from runengine_server.adapters.telemetry.tracing.run_tracer import WAITING_MAX, RunTracer
from runengine_server.adapters.telemetry.tracing.skill_calls import TracedSkillRunner
from runengine_server.adapters.telemetry.tracing.span_writer import ChosenIds, SpanWriter, call_span, step_span
from runengine_server.adapters.telemetry.tracing.trace_ids import TraceIds
from runengine_server.domain.cache import CacheFlight, CacheMiss, FlightId
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, RunKey, SkillId, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.states import CacheMode, MissReason, RunStatus
from runengine_server.domain.trace_context import TraceContext, run_span
from runengine_server.domain.workflow import StepDefinition
from runengine_server.ports.run_store import RunFacts
from runengine_server.ports.skill_runner import Failed, SkillCall
from runengine_server.ports.step_queue import AttemptFailed, EndedRun, Lease
from runengine_server.ports.step_times import StepTimes, StoppedStep
from runengine_server.ports.tracer import UNTRACED, Tracer

REPOSITORY = Path(__file__).resolve().parents[3]
RUN_ID = RunId("0f98bbeb-132f-4a5a-99d0-771eccc7a9eb")
TRACE = TraceContext(traceparent=f"00-{'a1' * 16}-{'b2' * 8}-01", tracestate="vendor=1")
STEP = StepDefinition(step_id=StepId("music"), skill_id=SkillId("audio.make"))
LEASE = Lease(RunKey(7), StepNo(0), 3, 2, 1)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOW_NS = round(NOW.timestamp() * 1e9)
FACTS = RunFacts(
    run=RunKey(7),
    run_id=RUN_ID,
    tenant=Tenant("acme"),
    workflow_name="wf",
    workflow_digest=WorkflowDigest("d"),
    cache_mode=CacheMode.DEFAULT,
    payload={"secret": "words"},
    change=None,
    base_run=None,
    base_digest=None,
    plan=[],
    deadline_in_s=None,
    trace=TRACE,
)
MISS = CacheMiss(reason=MissReason.EVICTED)
TRIED = AttemptFailed(lease=LEASE, failure=Failure(code="QUOTA", message="secret words", retryable=True), delay_ms=40)


@dataclass
class Times:
    """Times of steps, as the test has them; `is_away` is a database that is."""

    times: StepTimes | None = None
    stopped_steps: Sequence[StoppedStep] = ()
    is_away: bool = False
    asked: list[int] = field(default_factory=list)

    async def settled(self, leases: Sequence[Lease]) -> Sequence[StepTimes | None]:
        self.asked.append(len(leases))
        if self.is_away:
            raise UnavailableError("DATABASE_UNAVAILABLE", "away")
        return [self.times] * len(leases)

    async def stopped(self, run: RunKey, limit: int) -> Sequence[StoppedStep]:
        return self.stopped_steps


@dataclass
class Recorder:
    """A tracer, and what it exports."""

    times: Times = field(default_factory=Times)
    trace_ids: TraceIds = field(default_factory=TraceIds)

    def __post_init__(self) -> None:
        self._exporter, ids = InMemorySpanExporter(), ChosenIds()
        self.provider = TracerProvider(id_generator=ids, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.writer = SpanWriter(self.provider, ids)
        self.tracer = RunTracer(self.writer, self.times, self.trace_ids, now_ns=lambda: NOW_NS)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    async def written(self, count: int) -> Sequence[ReadableSpan]:
        """The spans, once so many have been written."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.tracer.run)
            with anyio.fail_after(5):
                while len(self.spans) < count:
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        return self.spans


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_of(span: ReadableSpan) -> str:
    assert span.parent is not None
    return format_span_id(span.parent.span_id)


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_span_id(span.context.span_id)


@pytest.mark.anyio
async def test_a_step_has_the_times_of_the_database() -> None:
    """A step begins when it was ready, and says how long it waited; its id follows from run, step and attempt."""
    ready = StepTimes(ready_at=NOW - timedelta(seconds=3), leased_at=NOW - timedelta(seconds=1), ended_at=NOW)
    recorder = Recorder(Times(ready))
    recorder.tracer.step_settled(FACTS, STEP, TRIED, 0.5)
    (span,) = await recorder.written(1)
    assert (span.start_time, span.end_time) == (NOW_NS - 3 * 10**9, NOW_NS)
    assert attributes_of(span) == {
        "runengine.run.id": RUN_ID,
        "runengine.workflow.name": "wf",
        "runengine.step.id": "music",
        "runengine.skill.id": "audio.make",
        "runengine.attempt": 2,
        "runengine.step.lease_losses": 1,
        "runengine.step.retry_delay_ms": 40,
        "runengine.step.queue_wait_ms": 2000,
        "error.type": "QUOTA",
    }
    assert (id_of(span), parent_of(span)) == (
        step_span(TRACE, RUN_ID, StepId("music"), 2).span_id,
        run_span(TRACE, RUN_ID).span_id,
    )


@pytest.mark.anyio
async def test_a_database_that_is_away_costs_the_times_alone() -> None:
    """Then a step's span is as long as its skill took; what is left at the end is written likewise."""
    recorder = Recorder(Times(is_away=True))
    recorder.tracer.step_settled(FACTS, STEP, TRIED, 0.5)
    await recorder.written(1)
    recorder.tracer.step_settled(FACTS, STEP, TRIED, 0.5)
    recorder.tracer.finish()
    assert [(span.start_time, span.end_time) for span in recorder.spans] == [(NOW_NS - 5 * 10**8, NOW_NS)] * 2
    assert all("runengine.step.queue_wait_ms" not in attributes_of(span) for span in recorder.spans)


@pytest.mark.anyio
async def test_what_cannot_be_recorded_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong is logged, and the next span is written."""
    recorder = Recorder(Times(times=cast("StepTimes", "no times")))
    recorder.tracer.step_settled(FACTS, STEP, TRIED, 0.0)
    with anyio.move_on_after(0.05):
        await recorder.tracer.run()
    recorder.tracer.cache_answered(replace(FACTS, trace=TraceContext(traceparent="no")), STEP, LEASE, MISS, 0.0)
    assert [record.message for record in caplog.records] == [
        "The spans of 0 steps are lost",
        "A span could not be written",
    ]
    recorder.tracer.cache_answered(FACTS, STEP, LEASE, MISS, 0.0)
    assert [span.name for span in recorder.spans] == ["cache lookup"]


@pytest.mark.anyio
async def test_what_waits_is_bounded_and_read_in_batches() -> None:
    """A database that does not keep up costs spans, no memory; 200 steps are asked about at once."""
    times = Times()
    recorder = Recorder(times)
    for _ in range(WAITING_MAX + 1):
        recorder.tracer.step_settled(FACTS, STEP, TRIED, 0.0)
    assert len(recorder.tracer._settled) == WAITING_MAX
    await recorder.written(400)
    assert set(times.asked) == {200}


@pytest.mark.anyio
async def test_a_run_that_fails_has_the_spans_of_what_it_stopped() -> None:
    """What was running when it failed is written by whoever ended it."""
    stopped = StoppedStep(
        step=StepNo(0), attempt=1, times=StepTimes(ready_at=None, leased_at=NOW - timedelta(seconds=1), ended_at=NOW)
    )
    recorder = Recorder(Times(stopped_steps=[stopped]))
    failure = Failure(code="DEADLINE_EXCEEDED", message="secret words")
    ended = EndedRun(run=RunKey(7), status=RunStatus.FAILED, duration_ms=2000, failed_step=None, failure=failure)
    recorder.tracer.run_ended(replace(FACTS, base_span=TRACE.at("c3" * 8)), ended, [STEP])
    run, step = await recorder.written(2)
    assert (run.name, run.start_time, parent_of(run)) == ("run wf", NOW_NS - 2 * 10**9, "b2" * 8)
    assert attributes_of(run)["error.type"] == "DEADLINE_EXCEEDED"
    assert [format_span_id(link.context.span_id) for link in run.links] == ["c3" * 8]
    assert (step.name, attributes_of(step)["error.type"]) == ("step music", "STEP_CANCELLED")
    assert "secret words" not in run.to_json() + step.to_json()


def test_every_engine_writes_a_call_under_the_same_id() -> None:
    """Whoever calls an attempt's skill sends the same parent; a code that is no name is not repeated."""
    call = SkillCall(
        skill_id=SkillId("audio.make"),
        idempotency_key="key",
        run_id=RUN_ID,
        step_id=StepId("music"),
        attempt=2,
        fencing_token=3,
        input_json=b"{}",
        input_hash="",
        workflow_name="wf",
        tenant=Tenant("acme"),
        timeout_s=1.0,
        trace=TRACE,
    )
    sent = []

    class Runner:
        def execute_at_once(self, call: SkillCall) -> Failed:
            sent.append(call.trace)
            return Failed(failure=Failure(code="multi\nline", message=""))

    for _ in range(2):
        recorder = Recorder()
        TracedSkillRunner(Runner(), recorder.writer).execute_at_once(call)  # type: ignore[arg-type]
        (span,) = recorder.spans
        assert id_of(span) == call_span(TRACE, RUN_ID, StepId("music"), 2).span_id
        assert parent_of(span) == step_span(TRACE, RUN_ID, StepId("music"), 2).span_id
        assert attributes_of(span)["error.type"] == "_OTHER"
    assert sent == [call_span(TRACE, RUN_ID, StepId("music"), 2)] * 2
    assert sent[0].tracestate == "vendor=1"


def test_look_ups_say_what_the_cache_said() -> None:
    """Each is a span of its own below the step's."""
    recorder = Recorder()
    for answer in (MISS, CacheMiss(reason=None), CacheFlight(flight=FlightId(b""))):
        recorder.tracer.cache_answered(FACTS, STEP, LEASE, answer, 0.25)
    said = [attributes_of(span) for span in recorder.spans]
    assert [each["runengine.cache.outcome"] for each in said] == ["MISS", "LOOKUP_FAILED", "IN_FLIGHT"]
    assert said[0]["runengine.cache.miss_reason"] == "EVICTED"
    assert {span.start_time for span in recorder.spans} == {NOW_NS - 250_000_000}
    assert len({id_of(span) for span in recorder.spans}) == 3
    assert {parent_of(span) for span in recorder.spans} == {step_span(TRACE, RUN_ID, StepId("music"), 2).span_id}


def test_the_current_span_is_what_a_run_is_started_in() -> None:
    """Its context is given with its state, unless that is long; outside of any span there is none."""
    recorder = Recorder()
    assert recorder.tracer.current() is None
    long = ",".join(f"vendor{n}={'v' * 60}" for n in range(10))
    for state, kept in ((TRACE.tracestate, TRACE.tracestate), (long, "")):
        carried = {"traceparent": TRACE.traceparent, "tracestate": state}
        context = TraceContextTextMapPropagator().extract(carried)
        span = recorder.provider.get_tracer("t").start_span("s", context=context)
        token = attach(set_span_in_context(span))
        started_in = TRACE.at(format_span_id(span.get_span_context().span_id))
        assert recorder.tracer.current() == replace(started_in, tracestate=kept)
        detach(token)


def test_contexts_are_kept_as_they_came() -> None:
    """What a run keeps reads back the same, with a state and without; a run's span is the end of its id."""
    for trace in (TRACE, replace(TRACE, tracestate="")):
        assert TraceContext.decode(trace.encode()) == trace
    assert (TRACE.trace_id, TRACE.span_id) == ("a1" * 16, "b2" * 8)
    assert run_span(TRACE, RUN_ID) == TRACE.at("99d0771eccc7a9eb")


def test_traces_of_runs_are_forgotten_in_order() -> None:
    """The runs met most recently are remembered, no more than so many."""
    ids = TraceIds(runs_max=2)
    for run_id in ("one", "two", "one", "three"):
        ids.put(RunId(run_id), TRACE)
    assert [ids.of(RunId(run_id)) for run_id in ("one", "two", "three")] == ["a1" * 16, None, "a1" * 16]


def test_who_does_not_trace_keeps_the_port() -> None:
    """The tracer of an engine without tracing has nothing to do and nothing to say."""
    tracer: Tracer = UNTRACED
    assert (tracer.is_on, tracer.current()) == (False, None)


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
    ],
)
def test_what_turns_traces_on(environ: dict[str, str], is_on: bool) -> None:
    """An exporter or an endpoint that is named does, unless the SDK is disabled."""
    assert is_configured(environ) is is_on


def test_the_document_names_every_attribute() -> None:
    """docs/tracing.md has a row for each attribute that is set, and none for another."""
    name = r"(?:runengine|rpc|http|url|error)\.[a-z_.]+"
    folder = REPOSITORY / "runengine_server" / "adapters" / "telemetry" / "tracing"
    files = [*folder.glob("*.py"), REPOSITORY / "runengine_client" / "skills" / "spans.py"]
    no_attributes = {"runengine.skills", "runengine.tracing", "http.response.start"}
    set_there = {found for file in files for found in re.findall(rf'"({name})"', file.read_text())} - no_attributes
    table = (REPOSITORY / "docs" / "tracing.md").read_text().partition("## Attributes")[2].partition("## Logs")[0]
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    assert set_there == {found for row in rows for found in re.findall(rf"`({name})`", row)}
