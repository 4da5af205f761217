"""A skill server on a real socket, an engine's runner for it, and skills whose pace the test sets."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from runengine_client.skills import AsyncSkillContext, Skill, SkillError, SkillServer, SkillServerLimits
from runengine_client.skills import skill as make_skill
from runengine_server.adapters.skills.grpc_runner import GrpcSkillRunner
from runengine_server.adapters.skills.targets import parse_endpoint
from runengine_server.domain.ids import RunId, SkillId, StepId, Tenant
from runengine_server.ports.skill_runner import SkillCall

CallFactory = Callable[..., SkillCall]
ServerFactory = Callable[..., SkillServer]
EngineFactory = Callable[[SkillServer], AbstractAsyncContextManager[GrpcSkillRunner]]


@pytest.fixture
def make_call() -> CallFactory:
    """Builds calls of `t.work`; keywords change fields, `given` is the input."""

    def build(given: dict[str, Any] | None = None, **changes: Any) -> SkillCall:
        input_json = json.dumps(given or {}).encode()
        input_hash = hashlib.sha256(input_json).hexdigest()
        fields: dict[str, Any] = {
            "skill_id": SkillId("t.work"),
            "idempotency_key": f"run/step/{input_hash}",
            "run_id": RunId("run"),
            "step_id": StepId("step"),
            "attempt": 1,
            "fencing_token": 1,
            "input_json": input_json,
            "input_hash": input_hash,
            "workflow_name": "w.v1",
            "tenant": Tenant("acme"),
            "timeout_s": 20.0,
        }
        return SkillCall(**{**fields, **changes})

    return build


@dataclass
class Workshop:
    """The skill `t.work`: publishes, reports, waits to be released, and answers which execution it was."""

    release: anyio.Event = field(default_factory=anyio.Event)
    started: anyio.Event = field(default_factory=anyio.Event)
    cancelled: anyio.Event = field(default_factory=anyio.Event)
    executions: int = 0
    running: int = 0
    running_max: int = 0
    failures_left: int = 0

    def skill(self, *, max_concurrency: int = 2) -> Skill:
        """The skill, ready to serve."""

        async def work(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
            self.executions += 1
            execution = self.executions
            self.running += 1
            self.running_max = max(self.running_max, self.running)
            try:
                await context.publish(f"draft {execution}".encode(), filename="draft.txt", media_type="text/plain")
                context.report_progress(0.5, "half")
                self.started.set()
                await self.release.wait()
            except BaseException:
                self.cancelled.set()
                raise
            finally:
                self.running -= 1
            if self.failures_left:
                self.failures_left -= 1
                raise SkillError("BUSY", "Try again", retryable=True)
            return {"execution": execution}

        return make_skill("t.work", max_concurrency=max_concurrency)(work)


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def make_server(workshop: Workshop, tmp_path: Path) -> ServerFactory:
    """Builds servers of the workshop's skill; keywords go to the server."""

    def build(**options: Any) -> SkillServer:
        defaults: dict[str, Any] = {
            "address": "127.0.0.1:0",
            "artifact_dir": tmp_path / "artifacts",
            "limits": SkillServerLimits(grace_s=10, drain_s=0.05),
        }
        skills = options.pop("skills", None) or [workshop.skill()]
        return SkillServer(skills, **{**defaults, **options})

    return build


@pytest.fixture
async def server(make_server: ServerFactory) -> AsyncIterator[SkillServer]:
    async with make_server() as running:
        yield running


@pytest.fixture(params=["many", "alone"])
def make_engine(request: pytest.FixtureRequest) -> EngineFactory:
    """Builds an engine's view of a server, with a channel of its own, over both kinds of stream."""

    @asynccontextmanager
    async def build(server: SkillServer) -> AsyncIterator[GrpcSkillRunner]:
        endpoint = parse_endpoint(f"grpc://{server.address}")
        shares_stream = request.param == "many"
        async with GrpcSkillRunner(endpoint, heartbeat_interval_s=0.3, shares_stream=shares_stream) as runner:
            await runner.wait_until_asked()
            yield runner

    return build


@pytest.fixture
async def engine(server: SkillServer, make_engine: EngineFactory) -> AsyncIterator[GrpcSkillRunner]:
    async with make_engine(server) as runner:
        yield runner


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Any]:
    """Waits for a condition, at most 10 s."""

    async def wait(condition: Callable[[], bool]) -> None:
        with anyio.fail_after(10):
            while not condition():  # noqa: ASYNC110 - the condition has no event
                await anyio.sleep(0.005)

    return wait
