"""The campaign example, built and rebuilt by real processes: counts, messages, plans, artifacts and the service."""

import hashlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from runengine_client import RunEngineClient, RunEvent, RunSnapshot
from runengine_client.skills import doubly_started, read_ledger
from runengine_client.states import OutputSource, PlanAction, RunStatus, StepStatus
from runengine_client.types import Artifact, Step
from runengine_client.watch_items import StepStatusChanged
from runengine_client.workflow import load_workflow

from ..support.campaign_skills import CampaignSkills
from ..support.engine_process import EngineProcess, EngineSettings
from ..support.processes import REPOSITORY, ManagedProcess

pytest.importorskip("av", reason="the campaign extra is not installed")
pytestmark = pytest.mark.anyio

EXAMPLE = REPOSITORY / "examples" / "campaign"
SAMPLES = json.loads((EXAMPLE / "sample_payloads.json").read_text())
COUNTS = {
    "audio.update": 4,
    "intro.update": 4,
    "outcome.update": 3,
    "game_config.update": 2,
    "asset3d.replace": 3,
    "full_rebuild": 13,
}
AUDIO_STEPS = {"generate_bgm_track", "generate_sfx_pack", "mix_audio_for_game", "assemble_campaign_manifest"}


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
        environment={},
    )


@pytest.fixture(scope="module")
async def client(engine: EngineProcess) -> AsyncIterator[RunEngineClient]:
    async with engine.client() as connected:
        yield connected


@pytest.fixture(scope="module")
async def built(client: RunEngineClient) -> str:
    """The id of a completed build, the first on this cache."""
    registered = await client.register_workflow(load_workflow(EXAMPLE / "campaign.build.v1.yaml"))
    assert registered.created
    handle = await client.start("campaign.build.v1", SAMPLES["trigger"])
    assert handle.message == "Run queued for execution"
    statuses: dict[str, list[StepStatus]] = {}
    async for item in handle.watch():
        if isinstance(item, RunSnapshot):
            assert len(item.steps) == 13
        if isinstance(item, RunEvent) and isinstance(item.detail, StepStatusChanged):
            statuses.setdefault(item.step_id, []).append(item.detail.to_status)
    assert {seen[-1] for seen in statuses.values()} == {StepStatus.COMPLETED}
    return handle.id


async def test_build(client: RunEngineClient, built: str, skills: CampaignSkills, engine: EngineProcess) -> None:
    """A first build executes all thirteen steps, each once, and says so in the seed's log lines."""
    run = await client.get_run(built, full=True)
    assert run.status is RunStatus.COMPLETED
    assert run.trigger_payload == SAMPLES["trigger"]
    summary = run.steps_summary
    assert (summary.total, summary.completed, summary.skipped) == (13, 13, 0)
    steps = [step async for step in client.list_steps(built)]
    assert {step.output_source for step in steps} == {OutputSource.EXECUTED}
    assert skills.calls(built) == {step.step_id for step in steps}
    for line in (
        f"[RunEngine] Run started: runId={built}, workflow=campaign.build.v1",
        f"[RunEngine] Step completed: runId={built}, stepId=generate_bgm_track, durationMs=",
        f"[RunEngine] Run completed: runId={built}, totalDurationMs=",
    ):
        engine.wait_for_text(line)


async def test_artifacts_are_complete(client: RunEngineClient, built: str) -> None:
    """Every file of the README's table is listed, and each exists with its size and hash."""
    artifacts = [artifact async for artifact in client.list_artifacts(built)]
    assert {artifact.step_id for artifact in artifacts} == {step.step_id async for step in client.list_steps(built)}
    names = {artifact.filename for artifact in artifacts}
    assert {"campaign_plan.json", "intro.png", "intro_loop.mp4", "bgm.wav", "game_mix.wav"} <= names
    assert {"outcome_win.mp4", "outcome_lose.mp4", "game_config.json", "campaign_manifest.json"} <= names
    for artifact in artifacts:
        check_file(artifact)


def check_file(artifact: Artifact) -> None:
    body = Path(unquote(urlsplit(artifact.uri).path)).read_bytes()
    assert hashlib.sha256(body).hexdigest() == artifact.content_hash, artifact.filename
    assert len(body) == artifact.size_bytes, artifact.filename


async def test_plan_of_audio_update(client: RunEngineClient, built: str) -> None:
    """The plan of an audio update executes exactly the four audio steps, reuses nine, and starts nothing."""
    plan = await client.plan_update(built, "audio.update", SAMPLES["changes"]["audio.update"])
    assert plan.reuse_count == 9
    assert plan.execute_count + plan.unknown_count == 4
    not_reused = {step.step_id for step in plan.steps if step.action is not PlanAction.REUSE}
    assert not_reused == AUDIO_STEPS
    assert [run.id async for run in client.list_runs(base_run_id=built)] == []


@pytest.mark.parametrize("change", COUNTS)
async def test_changes(client: RunEngineClient, built: str, skills: CampaignSkills, change: str) -> None:
    """A change type executes as many steps as announced, reuses the rest byte for byte, leaves the base alone."""
    before = [step async for step in client.list_steps(built, full=True)]
    planned = await client.plan_update(built, change, SAMPLES["changes"][change])

    handle = await client.start_update(built, change, SAMPLES["changes"][change])

    assert handle.message == f"Update run queued - {COUNTS[change]} steps will be re-executed"
    assert handle.plan is not None and handle.plan.digest == planned.digest
    run = await handle.result()
    assert (run.steps_summary.completed, run.steps_summary.skipped) == (COUNTS[change], 13 - COUNTS[change])
    assert (run.base_run_id, run.trigger_type) == (built, "update")
    steps = await handle.steps(full=True)
    executed = {step.step_id for step in steps if step.output_source is OutputSource.EXECUTED}
    assert executed == skills.calls(handle.id)
    assert executed == {step.step_id for step in handle.plan.steps if step.action is not PlanAction.REUSE}
    for old, new in zip(before, steps, strict=True):
        if new.step_id not in executed:
            assert (new.output, new.source_run_id) == (old.output, built)
            assert new.output_artifact_ids == old.output_artifact_ids
    assert [step async for step in client.list_steps(built, full=True)] == before
    await check_artifacts(handle.id, client, steps)


async def check_artifacts(run_id: str, client: RunEngineClient, steps: tuple[Step, ...]) -> None:
    """The run's list is complete: each step's artifacts, those of reused steps with their run, all files in place."""
    by_step: dict[str, list[Artifact]] = {}
    async for artifact in client.list_artifacts(run_id):
        check_file(artifact)
        by_step.setdefault(artifact.step_id, []).append(artifact)
    for step in steps:
        found = by_step[step.step_id]
        assert [artifact.id for artifact in found] == list(step.output_artifact_ids)
        expected = run_id if step.output_source is OutputSource.EXECUTED else step.source_run_id
        assert {artifact.source_run_id or run_id for artifact in found} == {expected}


async def test_same_change_again(client: RunEngineClient, built: str, skills: CampaignSkills) -> None:
    """The same update again executes nothing, is completed at once, and has the same files."""
    payload = SAMPLES["changes"]["audio.update"]
    earlier = await client.start_update(built, "audio.update", payload)
    await earlier.result()
    handle = await client.start_update(built, "audio.update", payload)
    assert handle.message == "Update run completed - 0 steps will be re-executed"
    assert handle.accepted is not None and handle.accepted.status is RunStatus.COMPLETED
    run = await handle.result()
    assert (run.steps_summary.completed, run.steps_summary.skipped) == (0, 13)
    assert skills.calls(handle.id) == set()
    hashes = [[artifact.content_hash for artifact in await each.artifacts()] for each in (earlier, handle)]
    assert hashes[0] == hashes[1]


async def test_update_of_an_update(client: RunEngineClient, built: str, skills: CampaignSkills) -> None:
    """Changes add up: a volume on top of an audio style mixes again and keeps the style's music."""
    style = await client.start_update(built, "audio.update", SAMPLES["changes"]["audio.update"])
    await style.result()
    louder = await client.start_update(style.id, "audio.update", {"volumeBoost": 0.8})
    run = await louder.result()
    assert skills.calls(louder.id) == {"mix_audio_for_game", "assemble_campaign_manifest"}
    assert run.root_run_id == built
    payload = (await client.get_run(louder.id, full=True)).trigger_payload
    assert payload == {**SAMPLES["trigger"], "audioStyle": "epic", "volumeBoost": 0.8}


async def test_second_build_is_reused(client: RunEngineClient, built: str, skills: CampaignSkills) -> None:
    """Building the same brief again calls no skill."""
    handle = await client.start("campaign.build.v1", SAMPLES["trigger"])
    run = await handle.result()
    assert run.steps_summary.skipped == 13
    assert skills.calls(handle.id) == set()
    assert run.savings.skipped_steps == 13 and run.savings.seconds_saved > 0


async def test_service(engine_settings: EngineSettings, skills: CampaignSkills, folder: Path) -> None:
    """examples/campaign_service.py runs as it stands against a server that lets callers in without a token."""
    with EngineProcess(engine_settings, "anonymous", RUNENGINE_ANONYMOUS="true") as engine:
        async with engine.client(token=None) as client:
            await client.register_workflow(load_workflow(EXAMPLE / "campaign.build.v1.yaml"))
        command = [sys.executable, str(REPOSITORY / "examples" / "campaign_service.py"), engine.target]
        with ManagedProcess(command, log_path=folder / "campaign-service.log") as service:
            assert service.wait(timeout_s=60) == 0, service.log
            assert service.log.endswith("completed: 4 steps executed, 9 reused\n")
    assert doubly_started(read_ledger(skills.ledger_path)) == ()
