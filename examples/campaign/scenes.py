"""What the demo shows of a running engine: a build, an update with its plan, the same update again, the files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from examples.campaign.gallery import catalogue, hang
from runengine_client import RunEngineClient
from runengine_client.cli import wording
from runengine_client.cli.live import FollowedRun, follow_run
from runengine_client.cli.run_view import StepOutcome
from runengine_client.cli.tables import plan_summary, plan_table
from runengine_client.workflow import load_workflow

WORKFLOW = Path(__file__).with_name("campaign.build.v1.yaml")
BRIEF = {
    "campaignId": "123e4567-e89b-12d3-a456-426614174000",
    "brief": {"title": "Summer Sale Campaign", "style": "energetic"},
}
CHANGE = ("audio.update", {"audioStyle": "epic", "volumeBoost": 1.2})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the scenes play."""

    target: str
    token: str = field(repr=False)
    folder: Path
    console: Console
    announce: Callable[[str], None]


async def play(stage: Stage) -> list[str]:
    """Play every scene; returns what was not as promised."""
    async with RunEngineClient(stage.target, token=stage.token) as client:
        base = await _build(stage, client)
        update = await _update(stage, client, base.run.id)
        again = await _update_again(stage, client, base.run.id)
        await _show_files(stage, client, base.run.id, update.run.id)
    return [
        *_differences("the build", base, executed=13, reused=0),
        *_differences("the update", update, executed=4, reused=9),
        *_differences("the same update again", again, executed=0, reused=13),
    ]


async def _build(stage: Stage, client: RunEngineClient) -> FollowedRun:
    stage.announce("1  Build a campaign: 13 steps")
    registered = (await client.register_workflow(load_workflow(WORKFLOW))).workflow
    stage.console.print(f"registered {registered.name} {registered.version}, digest {registered.digest[:12]}…")
    handle = await client.start(registered.name, BRIEF)
    stage.console.print(handle.message)
    followed = await follow_run(client, handle.id, console=stage.console)
    stage.console.print(_parallelism(followed.steps), style="bold")
    return followed


async def _update(stage: Stage, client: RunEngineClient, base_run_id: str) -> FollowedRun:
    change_type, payload = CHANGE
    stage.announce(f"2  Change the music: {change_type} {json.dumps(payload)}")
    plan = await client.plan_update(base_run_id, change_type, payload)
    stage.console.print("The plan, before anything is started:")
    stage.console.print(plan_table(plan))
    stage.console.print(plan_summary(plan))
    handle = await client.start_update(base_run_id, change_type, payload)
    stage.console.print(f"\n{handle.message}", style="bold")
    return await follow_run(client, handle.id, console=stage.console)


async def _update_again(stage: Stage, client: RunEngineClient, base_run_id: str) -> FollowedRun:
    stage.announce("3  The same change again: nothing left to execute")
    handle = await client.start_update(base_run_id, *CHANGE)
    stage.console.print(handle.message, style="bold")
    return await follow_run(client, handle.id, console=stage.console)


async def _show_files(stage: Stage, client: RunEngineClient, base_run_id: str, update_run_id: str) -> None:
    stage.announce("4  What was made")
    built = [artifact async for artifact in client.list_artifacts(base_run_id)]
    updated = [artifact async for artifact in client.list_artifacts(update_run_id)]
    stage.console.print(catalogue(updated))
    before = hang(built, stage.folder / "1-build")
    after = hang(updated, stage.folder / "2-epic-audio")
    stage.console.print(f"{len(before)} files in {stage.folder / '1-build'}", soft_wrap=True)
    stage.console.print(f"{len(after)} files in {stage.folder / '2-epic-audio'}", soft_wrap=True)


def _differences(what: str, followed: FollowedRun, *, executed: int, reused: int) -> list[str]:
    summary = followed.run.steps_summary
    if followed.run.status == "completed" and (summary.completed, summary.skipped) == (executed, reused):
        return []
    promised = f"{executed} executed and {reused} reused"
    return [f"{what} {followed.run.status} with {wording.summary(summary)} instead of {promised}"]


def _parallelism(steps: Sequence[StepOutcome]) -> str:
    """How many steps ran at once, and what that saved over one after the other."""
    spans = [(step.started_at, step.started_at + (step.duration or timedelta())) for step in steps if step.started_at]
    if not spans:
        return ""
    most = max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
    elapsed = max(end for _, end in spans) - min(start for start, _ in spans)
    work = sum((end - start for start, end in spans), timedelta())
    return f"up to {most} steps at once: {wording.span(work)} of work in {wording.span(elapsed)}"
