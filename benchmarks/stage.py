"""What tables run on: databases with the schema, an engine in this process, engines and skill servers beside it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from benchmarks.bench import Bench, RunEnds, child
from benchmarks.conditions import conditions
from benchmarks.cpu import Processes
from benchmarks.databases import Databases
from benchmarks.engine import NOOP, OnStep, engine_of, ignore_step
from benchmarks.figures import Figures
from benchmarks.result import Result
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_server.adapters.postgres.migrate import migrate
from runengine_server.adapters.tokens.anonymous import AnonymousAuthenticator
from runengine_server.config import read_settings
from runengine_server.rpc.conversion.workflow import read_workflow

T = TypeVar("T")

LOCAL: Mapping[str, str] = {"RUNENGINE_SKILLS": "*=local:"}


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """What the work returns, on the loop that the server uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def measure_figures(databases: Databases, figures: Figures, work: Coroutine[Any, Any, None]) -> Result:
    """The figures that the work added, with the conditions they depend on."""
    facts = await conditions(databases)
    await work
    return Result(conditions=facts, rows=figures.rows(), text=figures.text())


def set_environment(databases: Databases, settings: Mapping[str, str]) -> None:
    """An engine in this process, and others as they inherit it, use these databases and settings."""
    os.environ.update(
        DATABASE_URL=databases.database_url,
        REDIS_URL=databases.redis_url,
        RUNENGINE_ANONYMOUS="true",
        RUNENGINE_GRPC_ADDRESS="127.0.0.1:0",
        RUNENGINE_HTTP_ADDRESS="127.0.0.1:0",
        RUNENGINE_OPS_ADDRESS="127.0.0.1:0",
        **settings,
    )


@asynccontextmanager
async def opened_bench(
    databases: Databases,
    workflows: Iterable[workflow_pb2.Workflow],
    *,
    n: Sequence[int] = (1,),
    settings: Mapping[str, str] = LOCAL,
    skills: Mapping[str, Callable[..., Any]] = NOOP,
    skill_pids: Sequence[int] = (),
    on_step: OnStep = ignore_step,
) -> AsyncIterator[Bench]:
    """An engine runs in this process and knows the workflows.

    Args:
        databases: of the engine.
        workflows: to register.
        n: the sizes of w1.
        settings: `RUNENGINE_*`, for this engine and for processes that inherit the environment.
        skills: functions that `local:` means; plain ones run on the loop.
        skill_pids: skill servers whose CPU time counts.
        on_step: told of each step whose completion is committed.
    """
    set_environment(databases, settings)
    await migrate(databases.database_url)
    ends = RunEnds()
    caller = await AnonymousAuthenticator().authenticate(None)
    async with engine_of(read_settings(), ends.ended, on_step=on_step, skills=skills) as engine:
        for workflow in workflows:
            await engine.services.register_workflow(caller, read_workflow(workflow), validate_only=False)
        yield Bench(
            engine=engine,
            caller=caller,
            ends=ends,
            processes=Processes(postgres=databases.postgres_pid, valkey=databases.valkey_pid, skills=skill_pids),
            n=n,
        )


def started_skill_server(resources: ExitStack, folder: Path, *ledger: str) -> tuple[int, str]:
    """Skills are served by a process of its own until the resources are released; its id and address."""
    server = child(resources, "benchmarks.skill_server", os.fspath(folder), *ledger)
    _, pid, address = server.wait_for(lambda line: line.startswith("ready "))[-1].split()
    return int(pid), address
