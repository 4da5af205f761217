"""What the shell offers behind TAB: ids and names that the server knows, at once or not at all."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import typer

from runengine_client.client import RunEngineClient
from runengine_client.connection import TARGET_DEFAULT, TlsOptions
from runengine_client.errors import RunEngineError
from runengine_client.retry import Backoff
from runengine_client.states import RunStatus
from runengine_client.types import Run

WITHIN_S = 1.0
"""A shell that hangs at TAB is worse than one that has nothing to offer."""
OFFERED_MAX = 50

Offers = list[tuple[str, str]]
"""What can be written, and what the shell shows beside it."""


def run_ids(context: typer.Context, incomplete: str) -> Offers:
    """The newest runs."""
    return _ask(context, incomplete, lambda client: _collected(_described_runs(client)))


def completed_run_ids(context: typer.Context, incomplete: str) -> Offers:
    """The newest runs that an update can start from."""
    return _ask(context, incomplete, lambda client: _collected(_described_runs(client, RunStatus.COMPLETED)))


def workflow_names(context: typer.Context, incomplete: str) -> Offers:
    """The workflows that can be triggered."""

    async def names(client: RunEngineClient) -> Offers:
        return await _collected((each.name, each.version) async for each in client.list_workflows())

    return _ask(context, incomplete, names)


def step_ids(context: typer.Context, incomplete: str) -> Offers:
    """The steps of the run that the command line names."""
    run_id = _said(context, "run_id")

    async def steps(client: RunEngineClient) -> Offers:
        return await _collected((each.step_id, str(each.status)) async for each in client.list_steps(run_id))

    return _ask(context, incomplete, steps) if run_id else []


def change_types(context: typer.Context, incomplete: str) -> Offers:
    """The change requests of the workflow, or of the base run's, that the command line names."""
    base, name = _said(context, "base_run_id"), _said(context, "source")

    async def types(client: RunEngineClient) -> Offers:
        run = await client.get_run(base) if base else None
        workflow = await client.get_workflow(*((run.workflow_name, run.workflow_version) if run else (name,)))
        return [(rule.type, rule.description) for rule in workflow.change_requests]

    return _ask(context, incomplete, types) if base or name else []


async def _described_runs(client: RunEngineClient, *statuses: RunStatus) -> AsyncIterator[tuple[str, str]]:
    async for run in client.list_runs(page_size=OFFERED_MAX, statuses=list(statuses)):
        yield run.id, _described(run)


def _described(run: Run) -> str:
    return f"{run.workflow_name} {run.status}"


async def _collected(offers: AsyncIterator[tuple[str, str]]) -> Offers:
    found: Offers = []
    async for each in offers:
        found.append(each)
        if len(found) == OFFERED_MAX:
            break
    return found


def _ask(context: typer.Context, incomplete: str, question: Callable[[RunEngineClient], Awaitable[Offers]]) -> Offers:
    """What the server answers within a second, of which the shell takes what goes on like this; else nothing."""

    async def asked() -> Offers:
        # Not anyio's: a call that grpc gives up raises a cancellation of its own, which that would not recognise.
        async with asyncio.timeout(WITHIN_S), _client(context.find_root().params) as client:
            return await question(client)

    try:
        offers = asyncio.run(asked())
    except (RunEngineError, OSError):  # TimeoutError is one
        return []
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def _client(said: Mapping[str, Any]) -> RunEngineClient:
    """A client for the server that the global options before the cursor, or the environment, name."""
    tls_ca = said.get("tls_ca")
    return RunEngineClient(
        said.get("target") or TARGET_DEFAULT,
        token=said.get("token") or os.environ.get("RUNENGINE_TOKEN") or os.environ.get("TOKEN"),
        tls=TlsOptions(root_certificates=tls_ca.read_bytes()) if tls_ca else bool(said.get("tls")),
        allow_insecure_token=bool(said.get("insecure_token")),
        timeout_s=WITHIN_S,
        backoff=Backoff(attempts_max=1),
    )


def _said(context: typer.Context, name: str) -> str:
    return str(context.params.get(name) or "")
