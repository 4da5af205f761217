"""A real gRPC server on a free port over use cases that a test scripts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from runengine_client.pb.runengine.v1 import run_engine_pb2_grpc, workflow_pb2_grpc
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import UnauthenticatedError
from runengine_server.domain.events import StepsSummary
from runengine_server.domain.ids import RunId, SkillId, StepId, Tenant, WorkflowDigest
from runengine_server.domain.lineage import Lineage, LineageEdge
from runengine_server.domain.run import Run, Step
from runengine_server.domain.states import RunStatus, StepStatus, TriggerType
from runengine_server.rpc.server import RpcServer
from runengine_server.rpc.settings import RpcSettings
from runengine_server.service.messages import (
    ArtifactPage,
    CancelAnswer,
    RegisterWorkflowAnswer,
    RunComparison,
    RunPage,
    StepDiff,
    StepExplanation,
    StepPage,
    TriggerAnswer,
    WatchMessage,
    WatchRequest,
    WorkflowPage,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RUN_ID = RunId("550e8400-e29b-41d4-a716-446655440000")
SUMMARY = StepsSummary(total=1, pending=1, running=0, completed=0, skipped=0, failed=0, cancelled=0)
RUN = Run(
    id=RUN_ID,
    workflow_name="campaign.build.v1",
    workflow_version="1.0.0",
    workflow_digest=WorkflowDigest("ab" * 32),
    status=RunStatus.QUEUED,
    trigger_type=TriggerType.INITIAL,
    steps_summary=SUMMARY,
    created_at=NOW,
    updated_at=NOW,
    last_sequence=1,
)

STEP = Step(
    run_id=RUN_ID,
    step_id=StepId("mix"),
    skill_id=SkillId("audio.mix"),
    status=StepStatus.COMPLETED,
    depends_on=(StepId("music"),),
    level=1,
    attempt=1,
    max_attempts=3,
)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """gRPC's asynchronous server runs on asyncio only."""
    return "asyncio"


class FakeServices:
    """Answers what the test says, remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Caller, Any]] = []
        self.error: Exception | None = None
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self.watch: Callable[[WatchRequest], AsyncIterator[WatchMessage]] | None = None
        self.warnings: tuple[str, ...] = ()

    async def _called(self, name: str, caller: Caller, request: Any) -> None:
        self.calls.append((name, caller, request))
        if self.before_answer is not None:
            await self.before_answer()
        if self.error is not None:
            raise self.error

    async def trigger_run(self, caller, request):
        await self._called("trigger_run", caller, request)
        return TriggerAnswer(run_id=RUN_ID, status=RunStatus.QUEUED, message="Run queued for execution")

    async def trigger_update(self, caller, request):
        await self._called("trigger_update", caller, request)
        return TriggerAnswer(run_id=RUN_ID, status=RunStatus.QUEUED, message="Update run queued")

    async def retry_run(self, caller, request):
        await self._called("retry_run", caller, request)
        return TriggerAnswer(run_id=RUN_ID, status=RunStatus.QUEUED, message="Retry run queued")

    async def cancel_run(self, caller, run_id, reason):
        await self._called("cancel_run", caller, (run_id, reason))
        return CancelAnswer(run=replace(RUN, status=RunStatus.CANCELLED, cancel_reason=reason), message="Run cancelled")

    async def get_run(self, caller, run_id, *, is_full):
        await self._called("get_run", caller, (run_id, is_full))
        return RUN

    async def list_runs(self, caller, request):
        await self._called("list_runs", caller, request)
        return RunPage(runs=(RUN,), next_page_token="next")

    async def list_steps(self, caller, request):
        await self._called("list_steps", caller, request)
        return StepPage(steps=(), next_page_token="", as_of_sequence=1)

    async def list_artifacts(self, caller, request):
        await self._called("list_artifacts", caller, request)
        return ArtifactPage(artifacts=(), next_page_token="")

    async def explain_step(self, caller, run_id, step_id):
        await self._called("explain_step", caller, (run_id, step_id))
        return StepExplanation(step=STEP, text=("It ran.", "It had to."))

    async def compare_runs(self, caller, left_run_id, right_run_id):
        await self._called("compare_runs", caller, (left_run_id, right_run_id))
        diff = StepDiff(step_id=STEP.step_id, left=None, right=STEP, input_pointers=("/style", ""), output_changed=True)
        return RunComparison(steps=(diff,), root_cause_step_ids=(STEP.step_id,))

    async def get_lineage(self, caller, artifact_id, depth):
        await self._called("get_lineage", caller, (artifact_id, depth))
        edge = LineageEdge(from_artifact_id="b", to_artifact_id="a", step_id=STEP.step_id)
        return Lineage(artifacts=(), edges=(edge,))

    async def watch_run(self, caller, request):
        await self._called("watch_run", caller, request)
        assert self.watch is not None
        async for message in self.watch(request):
            yield message

    async def register_workflow(self, caller, workflow, *, validate_only):
        await self._called("register_workflow", caller, (workflow, validate_only))
        return RegisterWorkflowAnswer(workflow=workflow, is_created=not validate_only, warnings=self.warnings)

    async def get_workflow(self, caller, name, version):
        await self._called("get_workflow", caller, (name, version))
        raise AssertionError("no test reads a workflow without an error")

    async def list_workflows(self, caller, *, page_size, page_token, all_versions):
        await self._called("list_workflows", caller, (page_size, page_token, all_versions))
        return WorkflowPage(workflows=(), next_page_token="")


class FakeAuthenticator:
    """Knows tokens by name."""

    def __init__(self) -> None:
        self.callers = {
            "all": Caller(principal="ann", tenant=Tenant("acme"), scopes=frozenset(Scope)),
            "read": Caller(principal="rob", tenant=Tenant("acme"), scopes=frozenset({Scope.RUN_READ})),
            "other": Caller(principal="eve", tenant=Tenant("globex"), scopes=frozenset(Scope)),
            "short": Caller(
                principal="sue", tenant=Tenant("acme"), scopes=frozenset(Scope), expires_at=NOW + timedelta(seconds=0.3)
            ),
        }

    async def authenticate(self, token: str | None) -> Caller:
        if not token:
            raise UnauthenticatedError("TOKEN_MISSING", "no token")
        if token not in self.callers:
            raise UnauthenticatedError("TOKEN_INVALID", "unknown token")
        return self.callers[token]


class FakeMeter:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.answered: list[tuple[str, str, bool]] = []

    def rpc_answered(self, method, code, duration_s):
        self.answered.append((method.rpartition("/")[2], code, duration_s is not None))

    def http_answered(self, route, verb, status, duration_s):
        raise AssertionError("gRPC's server answers no HTTP")


class _Bearer:
    """Adds a token to every call."""

    def __init__(self, token: str) -> None:
        self._token = token

    def _with_token(self, details):
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", f"Bearer {self._token}")
        return details._replace(metadata=metadata)


class BearerUnary(_Bearer, grpc.aio.UnaryUnaryClientInterceptor):
    """For unary calls; gRPC takes one kind per interceptor."""

    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(self._with_token(details), request)


class BearerStream(_Bearer, grpc.aio.UnaryStreamClientInterceptor):
    """For watches."""

    async def intercept_unary_stream(self, continuation, details, request):
        return await continuation(self._with_token(details), request)


@dataclass
class Served:
    """A running server, its fakes, and clients of it."""

    server: RpcServer
    services: FakeServices
    authenticator: FakeAuthenticator
    meter: FakeMeter
    stack: AsyncExitStack
    now: list[datetime] = field(default_factory=lambda: [NOW])

    async def channel(self, token: str | None = None, **options: Any) -> grpc.aio.Channel:
        """A channel of its own, with a token on every call if one is given."""
        channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{self.server.port}",
            interceptors=[] if token is None else [BearerUnary(token), BearerStream(token)],
            options=[("grpc.use_local_subchannel_pool", 1), *options.items()],
        )
        return await self.stack.enter_async_context(channel)

    async def engine(self, token: str | None = "all") -> Any:
        """A client of the RunEngine service."""
        return run_engine_pb2_grpc.RunEngineStub(await self.channel(token))

    async def registry(self, token: str | None = "all") -> Any:
        """A client of the workflow registry."""
        return workflow_pb2_grpc.WorkflowRegistryServiceStub(await self.channel(token))

    async def until_watches(self, count: int) -> None:
        """Wait until so many watches are open; gRPC tells nobody when a call is over, so this polls."""
        async with asyncio.timeout(10):
            while self.server.watches.open_count != count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(anyio_backend: str) -> AsyncIterator[Serve]:
    """Starts servers with given settings; stops them and their clients afterwards."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Served:
            services, authenticator, meter = FakeServices(), FakeAuthenticator(), FakeMeter()
            now = [NOW]
            server = RpcServer(
                services=services,
                authenticator=authenticator,
                settings=RpcSettings(address="127.0.0.1:0", **settings),
                meter=meter,
                now=lambda: now[0],
            )
            await server.start()
            stack.push_async_callback(server.drain, 0)
            return Served(server, services, authenticator, meter, stack, now)

        yield start


@pytest.fixture
async def served(serve: Serve) -> Served:
    """A server with default settings."""
    return await serve()
