"""A RunEngine that answers over real gRPC from a script, and can fail in every way the client must survive."""

# ruff: noqa: N802 - the methods have the names of the RPCs

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from runengine_client.pb.runengine.v1 import (
    event_pb2,
    run_engine_pb2,
    run_engine_pb2_grpc,
    run_pb2,
    workflow_pb2,
    workflow_pb2_grpc,
)

RUN_ID = "550e8400-e29b-41d4-a716-446655440000"
STEP_IDS = ("plan", "image", "music", "mix")
LEVELS = {"plan": 0, "image": 1, "music": 1, "mix": 2}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Fault:
    """One refusal: a status, its reason and details."""

    code: str = "UNAVAILABLE"
    reason: str = ""
    message: str = "the connection broke"
    violations: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None

    def abort(self, context: grpc.ServicerContext) -> None:
        """End the call with this status."""
        details = []
        if self.reason:
            details.append(
                error_details_pb2.ErrorInfo(reason=self.reason, domain="runengine.v1", metadata=self.metadata)
            )
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for name, description in self.violations.items():
                bad.field_violations.add(field=name, description=description)
            details.append(bad)
        if self.retry_after_s is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_after_s * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = [any_pb2.Any() for _ in details]
        for box, detail in zip(packed, details, strict=True):
            box.Pack(detail)
        status = status_pb2.Status(code=code_pb2.Code.Value(self.code), message=self.message, details=packed)
        context.abort_with_status(rpc_status.to_status(status))


@dataclass
class WatchFault:
    """What goes wrong with one WatchRun call, after so many events of the log have been sent on it."""

    after_events: int
    fault: Fault | None = field(default_factory=Fault)
    is_silent: bool = False
    repeats: int = 0
    """Events before `after_sequence` that the call sends again."""
    skips: int = 0
    """Events after `after_sequence` that the call leaves out."""
    compacts: bool = False
    """Answer with a snapshot, as if the history were gone."""


class FakeRunEngine(run_engine_pb2_grpc.RunEngineServicer, workflow_pb2_grpc.WorkflowRegistryServiceServicer):
    """Answers every RPC the client uses; tests read `calls` and write the rest."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object, dict[str, str]]] = []
        self.faults: dict[str, list[Fault]] = {}
        self.late_faults: dict[str, list[Fault]] = {}
        """Raised after the work is done: the answer is lost."""
        self.watch_faults: list[WatchFault] = []
        self.started: dict[str, str] = {}
        self.run = finished_run()
        self.steps = [step_message(step_id) for step_id in STEP_IDS]
        self.artifacts: list[run_pb2.Artifact] = []
        self.log = event_log()
        self.snapshot_parts = 1
        self.page_size = 2
        self.workflows: dict[tuple[str, str], workflow_pb2.Workflow] = {}
        self.watch_ended = threading.Event()
        self.stopping = threading.Event()

    def requests(self, method: str) -> list[object]:
        """What a method was called with, in order."""
        return [request for name, request, _ in self.calls if name == method]

    def _enter(self, method: str, request: object, context: grpc.ServicerContext) -> None:
        self.calls.append((method, request, dict(context.invocation_metadata())))
        if self.faults.get(method):
            self.faults[method].pop(0).abort(context)

    def _start(self, method: str, request, context, message: str, response):
        self._enter(method, request, context)
        is_known = bool(request.request_id) and request.request_id in self.started
        run_id = "" if request.validate_only else self.started.setdefault(request.request_id, str(uuid.uuid4()))
        if len(self.started) == 1 and run_id:
            self.started[request.request_id] = run_id = RUN_ID
        if self.late_faults.get(method):
            self.late_faults[method].pop(0).abort(context)
        return response(
            run_id=run_id,
            status=run_pb2.RUN_STATUS_QUEUED,
            message=message,
            deduplicated=is_known,
            plan=plan_message() if request.validate_only or method != "Trigger" else None,
        )

    def Trigger(self, request, context):
        return self._start("Trigger", request, context, "Run queued for execution", run_engine_pb2.TriggerResponse)

    def TriggerUpdate(self, request, context):
        message = "Update run queued - 4 steps will be re-executed"
        return self._start("TriggerUpdate", request, context, message, run_engine_pb2.TriggerUpdateResponse)

    def RetryRun(self, request, context):
        message = "Retry run queued - 2 steps will be executed"
        return self._start("RetryRun", request, context, message, run_engine_pb2.RetryRunResponse)

    def Cancel(self, request, context):
        self._enter("Cancel", request, context)
        return run_engine_pb2.CancelResponse(run=self.run, message="Run cancelled")

    def GetRun(self, request, context):
        self._enter("GetRun", request, context)
        return run_engine_pb2.GetRunResponse(run=self.run)

    def ListRuns(self, request, context):
        self._enter("ListRuns", request, context)
        runs = [run_pb2.Run(id=f"run-{number}", workflow_name="demo", status=3) for number in range(5)]
        page, token = self._page(runs, request.page_token)
        return run_engine_pb2.ListRunsResponse(runs=page, next_page_token=token)

    def ListSteps(self, request, context):
        self._enter("ListSteps", request, context)
        page, token = self._page(self.steps, request.page_token)
        return run_engine_pb2.ListStepsResponse(steps=page, next_page_token=token)

    def ListArtifacts(self, request, context):
        self._enter("ListArtifacts", request, context)
        page, token = self._page(self.artifacts, request.page_token)
        return run_engine_pb2.ListArtifactsResponse(artifacts=page, next_page_token=token)

    def ExplainStep(self, request, context):
        self._enter("ExplainStep", request, context)
        return run_engine_pb2.ExplainStepResponse(step=self.steps[0], text=["It ran: nothing was cached."])

    def CompareRuns(self, request, context):
        self._enter("CompareRuns", request, context)
        reused = step_message("plan", run_pb2.STEP_STATUS_SKIPPED)
        reused.output_source = run_pb2.OUTPUT_SOURCE_BASE_RUN
        return run_engine_pb2.CompareRunsResponse(
            steps=[
                run_engine_pb2.StepDiff(step_id="plan", left=self.steps[0], right=reused),
                run_engine_pb2.StepDiff(
                    step_id="music",
                    left=self.steps[2],
                    right=self.steps[2],
                    input_pointers=["/style"],
                    output_changed=True,
                ),
                run_engine_pb2.StepDiff(step_id="mix", right=self.steps[3], output_changed=True),
            ],
            root_cause_step_ids=["music"],
        )

    def GetLineage(self, request, context):
        self._enter("GetLineage", request, context)
        made = [
            run_pb2.Artifact(id=f"a-{name}", run_id=RUN_ID, step_id=name, type="audio/wav", filename=f"{name}.wav")
            for name in ("mix", "music", "plan")
        ]
        pairs = [("a-music", "a-mix", "mix"), ("a-plan", "a-mix", "mix"), ("a-plan", "a-music", "music")]
        return run_engine_pb2.GetLineageResponse(
            nodes=[run_engine_pb2.LineageNode(artifact=artifact) for artifact in made],
            edges=[
                run_engine_pb2.LineageEdge(from_artifact_id=source, to_artifact_id=result, step_id=step_id)
                for source, result, step_id in pairs
            ],
        )

    def RegisterWorkflow(self, request, context):
        self._enter("RegisterWorkflow", request, context)
        workflow = request.workflow
        is_new = (workflow.name, workflow.version) not in self.workflows
        workflow.digest = "d" * 64
        if not request.validate_only:
            self.workflows[workflow.name, workflow.version] = workflow
        return workflow_pb2.RegisterWorkflowResponse(workflow=workflow, created=is_new and not request.validate_only)

    def GetWorkflow(self, request, context):
        self._enter("GetWorkflow", request, context)
        found = [each for (name, _), each in self.workflows.items() if name == request.name]
        if not found:
            Fault(code="NOT_FOUND", reason="WORKFLOW_NOT_FOUND", message=f"No workflow {request.name}").abort(context)
        return workflow_pb2.GetWorkflowResponse(workflow=found[0])

    def ListWorkflows(self, request, context):
        self._enter("ListWorkflows", request, context)
        page, token = self._page(list(self.workflows.values()), request.page_token)
        return workflow_pb2.ListWorkflowsResponse(workflows=page, next_page_token=token)

    def _page(self, items: list, token: str) -> tuple[list, str]:
        start = int(token or 0)
        end = start + self.page_size
        return items[start:end], str(end) if end < len(items) else ""

    def WatchRun(self, request, context):
        self._enter("WatchRun", request, context)
        self.watch_ended.clear()
        gone = threading.Event()
        context.add_callback(gone.set)
        context.add_callback(self.watch_ended.set)
        plan = self.watch_faults.pop(0) if self.watch_faults else WatchFault(after_events=10**6, fault=None)
        answer = _Answer(request.run_id)
        at = request.after_sequence if request.HasField("after_sequence") else None
        if at is None or plan.compacts:
            reason = event_pb2.SNAPSHOT_REASON_HISTORY_COMPACTED if plan.compacts else 1
            at = len(self.log) if plan.compacts else 0
            for part in self._snapshot(reason, at):
                yield part
                if plan.after_events < 0:
                    plan.fault.abort(context)
        else:
            yield answer(at, bookmark=event_pb2.Bookmark())
        events = self.log[max(0, at - plan.repeats) :][plan.skips :]
        for count, event in enumerate(events):
            if count == plan.after_events:
                break
            yield answer(max(event.sequence, at), events=event_pb2.EventBatch(events=[event]))
        if plan.is_silent:
            while not gone.wait(0.02) and not self.stopping.is_set():
                pass
            return
        if plan.after_events < len(events):
            if plan.fault is not None:
                plan.fault.abort(context)
            return  # OK without an end
        yield answer(len(self.log), end=event_pb2.WatchEnd(run=self.run))

    def _snapshot(self, reason: int, at: int) -> Iterator[run_engine_pb2.WatchRunResponse]:
        answer = _Answer(self.run.id)
        running = run_pb2.Run(id=self.run.id, workflow_name="demo", workflow_version="1.0.0", status=1)
        per_part = -(-len(self.steps) // self.snapshot_parts)
        pending = [step_message(step.step_id, run_pb2.STEP_STATUS_PENDING) for step in self.steps]
        for part in range(self.snapshot_parts):
            is_last = part == self.snapshot_parts - 1
            snapshot = event_pb2.RunSnapshot(
                run=running,
                steps=pending[part * per_part : (part + 1) * per_part],
                reason=reason,
                more=not is_last,
            )
            yield answer(at if is_last else 0, snapshot=snapshot)


class _Answer:
    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def __call__(self, sequence: int, **kind) -> run_engine_pb2.WatchRunResponse:
        return run_engine_pb2.WatchRunResponse(run_id=self._run_id, sequence=sequence, **kind)


def finished_run(status: int = run_pb2.RUN_STATUS_COMPLETED) -> run_pb2.Run:
    """A run of the demo workflow that has ended."""
    run = run_pb2.Run(
        id=RUN_ID,
        workflow_name="demo",
        workflow_version="1.0.0",
        status=status,
        trigger_type=run_pb2.TRIGGER_TYPE_INITIAL,
        steps_summary=run_pb2.StepsSummary(total=4, completed=3, skipped=1),
        last_sequence=12,
    )
    run.created_at.FromJsonString("2026-01-19T10:00:00Z")
    run.started_at.FromJsonString("2026-01-19T10:00:01Z")
    run.completed_at.FromJsonString("2026-01-19T10:00:08Z")
    run.trigger_payload.update({"brief": {"style": "energetic", "count": 3}})
    if status == run_pb2.RUN_STATUS_FAILED:
        run.error.code, run.error.message, run.error.step_id = "SKILL_TIMEOUT", "took too long", "mix"
        run.failed_step = "mix"
    return run


def step_message(step_id: str, status: int = run_pb2.STEP_STATUS_COMPLETED) -> run_pb2.Step:
    """A step of the demo workflow."""
    return run_pb2.Step(
        run_id=RUN_ID,
        step_id=step_id,
        skill_id=f"demo.{step_id}",
        status=status,
        level=LEVELS[step_id],
        attempt=1 if status == run_pb2.STEP_STATUS_COMPLETED else 0,
        max_attempts=3,
        duration_ms=5234 if status == run_pb2.STEP_STATUS_COMPLETED else 0,
        output_source=run_pb2.OUTPUT_SOURCE_EXECUTED if status == run_pb2.STEP_STATUS_COMPLETED else 0,
    )


def plan_message() -> run_pb2.RebuildPlan:
    """A plan of the demo workflow."""
    plan = run_pb2.RebuildPlan(execute_count=2, reuse_count=2, digest="abc123", seed_step_ids=["music"])
    plan.steps.add(step_id="plan", action=run_pb2.PLAN_ACTION_REUSE, reason=run_pb2.PLAN_REASON_UNAFFECTED)
    plan.steps.add(step_id="image", action=run_pb2.PLAN_ACTION_REUSE, reason=run_pb2.PLAN_REASON_UNAFFECTED)
    plan.steps.add(step_id="music", action=run_pb2.PLAN_ACTION_EXECUTE, reason=run_pb2.PLAN_REASON_SEED)
    plan.steps.add(
        step_id="mix", action=run_pb2.PLAN_ACTION_EXECUTE, reason=run_pb2.PLAN_REASON_DOWNSTREAM, caused_by=["music"]
    )
    return plan


def event_log() -> list[event_pb2.RunEvent]:
    """The demo run's events, 1 … 13: one step is reused, two run in parallel, one publishes an artifact."""
    log: list[event_pb2.RunEvent] = []

    def add(**detail) -> None:
        event = event_pb2.RunEvent(sequence=len(log) + 1, **detail)
        event.occurred_at.FromJsonString(f"2026-01-19T10:00:{len(log):02d}Z")
        log.append(event)

    def run_status(to: int) -> None:
        add(type=event_pb2.RUN_EVENT_TYPE_RUN_STATUS, run=event_pb2.RunStatusChanged(to_status=to))

    def step_status(step_id: str, before: int, to: int, **more) -> None:
        change = event_pb2.StepStatusChanged(from_status=before, to_status=to, **more)
        add(type=event_pb2.RUN_EVENT_TYPE_STEP_STATUS, step_id=step_id, attempt=1, step=change)

    hit = run_pb2.CacheDecision(outcome=run_pb2.CACHE_OUTCOME_HIT, tier=run_pb2.CACHE_TIER_HOT)
    miss = run_pb2.CacheDecision(
        outcome=run_pb2.CACHE_OUTCOME_MISS,
        miss_reason=run_pb2.MISS_REASON_INPUT_CHANGED,
        changed_pointers=["/style"],
    )
    run_status(run_pb2.RUN_STATUS_QUEUED)
    run_status(run_pb2.RUN_STATUS_RUNNING)
    step_status("plan", 2, 5, output_source=run_pb2.OUTPUT_SOURCE_CACHE_HOT, cache=hit)
    step_status("image", 1, 2)
    step_status("music", 1, 2)
    step_status("image", 2, 3)
    step_status("music", 2, 3, cache=miss)
    step_status("image", 3, 4, duration_ms=1200, output_source=run_pb2.OUTPUT_SOURCE_EXECUTED)
    artifact = run_pb2.Artifact(id="a-1", run_id=RUN_ID, step_id="music", type="audio/mpeg", uri="file:///bgm.mp3")
    add(type=event_pb2.RUN_EVENT_TYPE_ARTIFACT, step_id="music", artifact=artifact)
    step_status("music", 3, 4, duration_ms=5234, output_source=run_pb2.OUTPUT_SOURCE_EXECUTED)
    step_status("mix", 1, 3)
    step_status("mix", 3, 4, duration_ms=800, output_source=run_pb2.OUTPUT_SOURCE_EXECUTED)
    run_status(run_pb2.RUN_STATUS_COMPLETED)
    return log


@dataclass
class Serving:
    """The fake and the server that serves it, which can be stopped and started again on the same port."""

    fake: FakeRunEngine
    port: int = 0
    server: grpc.Server | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.fake.stopping.clear()
        self.server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        run_engine_pb2_grpc.add_RunEngineServicer_to_server(self.fake, self.server)
        workflow_pb2_grpc.add_WorkflowRegistryServiceServicer_to_server(self.fake, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()

    def stop(self) -> None:
        self.fake.stopping.set()
        if self.server is not None:
            self.server.stop(grace=None).wait()
            self.server = None


@pytest.fixture
def serving() -> Iterator[Serving]:
    made = Serving(FakeRunEngine())
    made.start()
    yield made
    made.stop()


@pytest.fixture
def fake(serving: Serving) -> FakeRunEngine:
    return serving.fake


@pytest.fixture
def make_fault() -> type[Fault]:
    return Fault


@pytest.fixture
def make_watch_fault() -> type[WatchFault]:
    return WatchFault


@pytest.fixture
def make_run():
    return finished_run
