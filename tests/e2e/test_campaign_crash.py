"""kill -9 of the only server in the middle of the campaign: what was being paid for is not paid for twice."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from runengine_client import RunEvent
from runengine_client.skills import LedgerEvent, doubly_started, read_ledger
from runengine_client.states import StepStatus
from runengine_client.watch_items import StepStatusChanged
from runengine_client.workflow import load_workflow

from ..support.campaign_skills import CampaignSkills
from ..support.engine_process import EngineProcess, EngineSettings
from ..support.invariants import check_invariants
from ..support.processes import REPOSITORY

pytest.importorskip("av", reason="the campaign extra is not installed")
pytestmark = pytest.mark.anyio

WORKFLOW = REPOSITORY / "examples" / "campaign" / "campaign.build.v1.yaml"
BRIEF = {"brief": {"title": "Killed In The Middle", "style": "calm"}}


@pytest.fixture(scope="module")
def skills(folder: Path) -> Iterator[CampaignSkills]:
    with CampaignSkills(folder) as process:
        yield process


@pytest.fixture(scope="module")
def engine_settings(stack: Any, fresh_database_url: str, skills: CampaignSkills, folder: Path) -> EngineSettings:
    return EngineSettings(
        database_url=fresh_database_url,
        redis_url=stack.redis_url,
        skills=f"*=grpc://{skills.address}",
        folder=folder,
        environment={"RUNENGINE_LEASE_S": "1"},
    )


async def test_killed_in_the_middle(engine_settings: EngineSettings, skills: CampaignSkills) -> None:
    """The restarted server completes the run by attaching; events are 1, 2, 3 … and no step has two results.

    The skills stand still until the successor has leased their steps, so that they are in flight when it calls.
    """
    address = f"127.0.0.1:{_free_port()}"
    sequences: list[int] = []
    with ExitStack() as engines:
        victim = engines.enter_context(EngineProcess(engine_settings, "victim", address=address))
        async with victim.client() as client:
            await client.register_workflow(load_workflow(WORKFLOW))
            handle = await client.start("campaign.build.v1", BRIEF)
            async for item in client.watch(handle.id, after_sequence=0):
                if not isinstance(item, RunEvent):
                    continue
                sequences.append(item.sequence)
                if victim.is_running and len(skills.calls(handle.id)) >= 4:
                    skills.stop()
                    victim.kill()
                    engines.enter_context(EngineProcess(engine_settings, "successor", address=address))
                elif not victim.is_running and _is_leased_again(item):
                    skills.cont()
            run = await client.get_run(handle.id)
    assert not victim.is_running
    assert run.steps_summary.completed == 13
    assert sequences == list(range(1, run.last_sequence + 1))
    records = read_ledger(skills.ledger_path)
    assert not doubly_started(records)
    assert any(record.event is LedgerEvent.ATTACHED for record in records), "nothing was in flight at the kill"
    connection = await asyncpg.connect(engine_settings.database_url)
    try:
        assert not await check_invariants(connection)
    finally:
        await connection.close()


def _is_leased_again(event: RunEvent) -> bool:
    detail = event.detail
    return isinstance(detail, StepStatusChanged) and (detail.from_status, detail.to_status) == (
        StepStatus.READY,
        StepStatus.RUNNING,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
