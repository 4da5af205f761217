"""The console's run page: the graph follows the run, the drawer says why, every view has an address."""

import json

import pytest
from playwright.async_api import Page, Route, expect

from runengine_client import RunEngineClient
from runengine_client.handle import RunHandle
from runengine_client.workflow import WorkflowBuilder, expression

from ..e2e.workflows import DEMO, demo, gated, single
from ..support.engine_process import EngineProcess, EngineSettings
from ..support.skill_server_process import SkillServerProcess
from .console import drawer, expect_status, node, open_console

pytestmark = pytest.mark.anyio


async def updated(client: RunEngineClient, brief: str) -> tuple[RunHandle, RunHandle]:
    """A completed run, and a completed update of its music."""
    await client.register_workflow(demo())
    base = await client.start(DEMO, {"brief": brief})
    await base.result()
    update = await client.start_update(base.id, "music.update", {"style": "loud"})
    await update.result()
    return base, update


async def test_the_graph_follows_the_run(
    page: Page, engine: EngineProcess, client: RunEngineClient, skills: SkillServerProcess, console_errors: list[str]
) -> None:
    """Steps change their status, and the head its counts, while the run runs, without a reload."""
    await client.register_workflow(gated())
    run = await client.start("gated", {"gate": "graph"})
    await open_console(page, engine, f"/runs/{run.id}")
    await expect_status(page, "wait", "running")
    await expect(node(page, "wait")).to_contain_text("50 %")
    await expect_status(page, "after", "pending")
    await expect(page.locator(".connection")).to_have_text("Live")
    skills.open_gate("graph")
    await expect_status(page, "wait", "completed")
    await expect_status(page, "after", "completed")
    await expect(page.locator(".run-head")).to_contain_text("2 steps: 2 completed")
    await expect(page.locator(".connection")).to_have_text("Up to date")
    assert not console_errors


async def test_a_run_lasts_no_less_than_its_steps(page: Page, engine: EngineProcess) -> None:
    """The head's duration covers what its steps show, also between two ticks of the page's clock."""
    moments = {"createdAt": "2026-01-01T00:00:00Z", "startedAt": "2026-01-01T00:00:00Z"}
    moments["updatedAt"] = "2026-01-01T00:00:01.400Z"
    summary = {"total": 2, "completed": 1, "running": 1}
    run = {"id": "1", "workflowName": "timed", "status": "running", "stepsSummary": summary, **moments}
    ended = {"stepId": "ended", "level": 0, "status": "completed", "durationMs": 1300}
    ended |= {"startedAt": "2026-01-01T00:00:00.100Z", "endedAt": "2026-01-01T00:00:01.400Z"}
    runs = {"stepId": "runs", "level": 1, "status": "running", "startedAt": "2026-01-01T00:00:01.400Z"}

    async def told(route: Route) -> None:
        snapshot = json.dumps({"run": run, "steps": [ended, runs], "more": False})
        await route.fulfill(content_type="text/event-stream", body=f"id: 1\nevent: snapshot\ndata: {snapshot}\n\n")

    await page.route("**/runs/1/events?*", told)
    await page.route("**/runs/1?*", lambda route: route.fulfill(json=run))
    await page.clock.set_fixed_time("2026-01-01T00:00:00.800Z")
    await open_console(page, engine, "/runs/1")
    duration = page.locator(".figure", has_text="Duration").locator("strong")
    await expect(node(page, "ended").locator(".node-note")).to_have_text("1.3 s")
    await expect(node(page, "runs").locator(".node-note")).to_have_text("")
    await expect(duration).to_have_text("1.4 s")
    await page.clock.set_fixed_time("2026-01-01T00:00:03.600Z")
    await expect(node(page, "runs").locator(".node-note")).to_have_text("2 s")
    await expect(duration).to_have_text("3.6 s")


async def test_reused_steps_and_why(
    page: Page, engine: EngineProcess, client: RunEngineClient, console_errors: list[str]
) -> None:
    """What was reused says from where; the drawer has the explanation, input, output and the source run."""
    base, update = await updated(client, "reused")
    await open_console(page, engine, f"/runs/{update.id}")
    await expect_status(page, "plan", "skipped")
    await expect(node(page, "plan")).to_contain_text("base")
    await expect_status(page, "music", "completed")

    await node(page, "music").click()
    await expect(page).to_have_url(f"{engine.http_url}/runs/{update.id}?step=music")
    await expect(drawer(page)).to_contain_text("music was executed because its input changed at /style")
    await expect(drawer(page).locator(".cache-card")).to_contain_text("Miss: its input is another one")
    await expect(drawer(page).get_by_label("input", exact=True)).to_contain_text('"style": "loud"')
    await expect(drawer(page).get_by_label("output", exact=True)).to_contain_text('"style": "loud"')

    await page.keyboard.press("k")
    await expect(drawer(page).get_by_role("heading", name="plan")).to_be_visible()
    await drawer(page).get_by_role("link", name=base.id[:8]).click()
    await expect(page).to_have_url(f"{engine.http_url}/runs/{base.id}?step=plan")
    await expect_status(page, "plan", "completed")
    await page.keyboard.press("Escape")
    await expect(drawer(page)).to_have_count(0)
    assert not console_errors


async def test_causes_come_before_hashes(page: Page, engine: EngineProcess, client: RunEngineClient) -> None:
    """What a person can read of an explanation comes first: values, then files that are others; hashes on demand."""
    written = {"text": expression("trigger.text"), "filename": "text.txt"}
    read = {"file": expression("steps.write.artifacts[0]"), "title": expression("trigger.title")}
    await client.register_workflow(
        WorkflowBuilder("reading", version="1.0.0")
        .step("write", skill="t.publish", input=written)
        .step("read", skill="t.echo", needs=["write"], input=read)
        .change("rewrite", seeds=["write"])
        .build()
    )
    base = await client.start("reading", {"text": "before", "title": "Before"})
    await base.result()
    update = await client.start_update(base.id, "rewrite", {"text": "afterwards", "title": "Afterwards"})
    await update.result()
    await open_console(page, engine, f"/runs/{update.id}?step=read")
    told = drawer(page).locator(".why li")
    await expect(told.first).to_contain_text('read was executed because its input changed at /title: "Before"')
    await expect(told.nth(1)).to_contain_text(
        "its input changed at /file: another file, which comes from the artifacts"
    )
    await expect(drawer(page).locator(".why")).not_to_contain_text("contentHash")
    await drawer(page).get_by_role("button", name="Show all of it").click()
    await expect(told.last).to_contain_text("Also, its input changed at /file/uri:")
    await expect(told.filter(has_text="/file/contentHash:")).to_have_count(1)


async def test_a_cache_hit_has_its_badge(page: Page, engine: EngineProcess, client: RunEngineClient) -> None:
    """A second run of the same payload finds everything, and says where it was made."""
    base, _ = await updated(client, "twice")
    again = await client.start(DEMO, {"brief": "twice"})
    await again.result()
    await open_console(page, engine, f"/runs/{again.id}?step=mix")
    await expect(node(page, "mix").locator(".source-badge")).to_have_text("cache")
    await expect(drawer(page).locator(".cache-card")).to_contain_text("Hit in the hot cache")
    await expect(drawer(page).locator(".cache-card").get_by_role("link")).to_have_text(base.id[:8])


async def test_a_failure_is_told(page: Page, engine: EngineProcess, client: RunEngineClient) -> None:
    """A failed run names step and reason in its head; the drawer lists every attempt."""
    given = {name: expression(f"trigger.{name}") for name in ("failures", "code")}
    await client.register_workflow(single("failing", skill="t.flaky", input=given, max_attempts=2, backoff_ms=1))
    run = await client.start("failing", {"failures": 9, "code": "NO_PAPER"})
    with pytest.raises(Exception, match="NO_PAPER"):
        await run.result()
    await open_console(page, engine, f"/runs/{run.id}")
    await expect(page.locator(".run-error")).to_contain_text("only")
    await page.locator(".run-error").get_by_role("link").click()
    await expect(drawer(page).locator(".error-box")).to_contain_text("NO_PAPER")
    await expect(drawer(page).locator(".attempts li")).to_have_count(2)


async def test_every_view(
    page: Page, engine: EngineProcess, client: RunEngineClient, console_errors: list[str]
) -> None:
    """Timeline, steps, events, artifacts, comparison and details show the run, each at an address and a key."""
    base, update = await updated(client, "views")
    await open_console(page, engine, f"/runs/{update.id}?tab=timeline")
    await expect(page.locator('.time-row[data-step="music"] .time-bar')).to_have_count(1)
    await expect(page.locator('.time-row[data-step="plan"] .source-badge')).to_have_text("base")

    await page.keyboard.press("3")
    await expect(page).to_have_url(f"{engine.http_url}/runs/{update.id}?tab=steps")
    await page.get_by_label("Find by step or skill").fill("mus")
    await expect(page.locator(".step-row")).to_have_count(1)
    await page.locator(".step-row").click()
    await expect(drawer(page).get_by_role("heading", name="music")).to_be_visible()

    await page.goto(f"{engine.http_url}/runs/{update.id}?tab=events")
    events = page.locator(".event-row")
    await expect(events.first).to_contain_text("1")
    await expect(events.last).to_contain_text("run")
    await expect(events.last).to_contain_text("completed")

    await page.goto(f"{engine.http_url}/runs/{update.id}?tab=compare")
    await expect(page.locator(".compare-sum")).to_contain_text("2 steps of 4 differ")
    await expect(page.locator('.diff-row[data-step="music"]')).to_contain_text("root cause")
    await expect(page.locator('.diff-row[data-step="music"]')).to_contain_text("/style")

    await page.goto(f"{engine.http_url}/runs/{update.id}?tab=details")
    await expect(page.get_by_label("change request", exact=True)).to_contain_text('"style": "loud"')
    await expect(page.locator(".facts")).to_contain_text(base.id[:8])
    await page.goto(f"{engine.http_url}/runs/{update.id}?tab=artifacts")
    await expect(page.get_by_text("No artifacts yet")).to_be_visible()
    assert not console_errors


async def test_artifacts_are_listed(page: Page, engine: EngineProcess, client: RunEngineClient) -> None:
    """Files that steps published are listed with name, step and size; opening one is in the address."""
    given = {name: expression(f"trigger.{name}") for name in ("text", "filename")}
    await client.register_workflow(single("publishing", skill="t.publish", input=given))
    run = await client.start("publishing", {"text": "hello", "filename": "greeting.txt"})
    await run.result()
    await open_console(page, engine, f"/runs/{run.id}?tab=artifacts")
    row = page.locator(".artifact-row")
    await expect(row).to_contain_text("greeting.txt")
    await expect(row).to_contain_text("5 B")
    await row.click()
    await expect(page.get_by_role("heading", name="greeting.txt")).to_be_visible()
    assert "artifact=" in page.url


async def test_a_lost_engine_is_told_and_found_again(
    page: Page, engine_settings: EngineSettings, skills: SkillServerProcess
) -> None:
    """Without an engine the page says that it is stale; when one is back, the page catches up by itself."""
    with EngineProcess(engine_settings, "first") as first:
        async with first.client() as client:
            await client.register_workflow(gated("restarted"))
            run = await client.start("restarted", {"gate": "restart"})
        await open_console(page, first, f"/runs/{run.id}")
        await expect_status(page, "wait", "running")
        address = first.http_url.removeprefix("http://")
        first.kill()
    await expect(page.locator(".connection")).to_contain_text("Reconnecting")
    await expect_status(page, "wait", "running")
    skills.open_gate("restart")
    with EngineProcess(engine_settings, "second", RUNENGINE_HTTP_ADDRESS=address):
        await expect_status(page, "after", "completed")
        await expect(page.locator(".connection")).to_have_text("Up to date")


async def test_a_page_that_nobody_sees_holds_no_connection(
    page: Page, engine: EngineProcess, client: RunEngineClient, skills: SkillServerProcess
) -> None:
    """A hidden page lets go of its stream after a while, as a browser has few; seen again, it catches up."""
    hide = "(is) => { Object.defineProperty(document, 'hidden', { value: is, configurable: true }); "
    hide += "document.dispatchEvent(new Event('visibilitychange')); }"
    await client.register_workflow(gated("hidden"))
    run = await client.start("hidden", {"gate": "hidden"})
    await page.clock.install()
    await open_console(page, engine, f"/runs/{run.id}")
    await page.clock.run_for(100)
    await expect_status(page, "wait", "running")
    await page.evaluate(hide, True)
    await page.clock.run_for(9_000)
    await expect(page.locator(".connection")).to_have_text("Live")
    await page.clock.run_for(1_500)
    await expect(page.locator(".connection")).to_have_text("Paused")
    skills.open_gate("hidden")
    await run.result()
    await expect_status(page, "wait", "running")
    await page.evaluate(hide, False)
    await page.clock.resume()
    await expect_status(page, "after", "completed")
