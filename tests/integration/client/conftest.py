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

from .messages import (
    RUN_ID,
    STEP_IDS,
    comparison_message,
    event_log,
    finished_run,
    lineage_message,
    plan_message,
    step_message,
)


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
        return comparison_message()

    def GetLineage(self, request, context):
        self._enter("GetLineage", request, context)
        return lineage_message()

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
