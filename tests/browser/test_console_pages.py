"""The console's pages of the queue and of workflows."""

import pytest
from playwright.async_api import Page, expect

from runengine_client import RunEngineClient

from ..e2e.workflows import demo, gated, single
from ..support.engine_process import EngineProcess
from ..support.skill_server_process import SkillServerProcess
from .console import drawer, node, open_console

pytestmark = pytest.mark.anyio


async def test_the_queue_is_live(
    page: Page, engine: EngineProcess, client: RunEngineClient, skills: SkillServerProcess, console_errors: list[str]
) -> None:
    """What runs and what waits for another attempt is counted and named, and gone when it is done."""
    await client.register_workflow(gated("queue_gated"))
    given = {"failures": 9}
    await client.register_workflow(
        single("queue_flaky", skill="t.flaky", input=given, max_attempts=3, backoff_ms=60_000)
    )
    await open_console(page, engine, "/queue")
    await expect(page.get_by_text("Nothing waits and nothing runs")).to_be_visible()
    await expect(page.get_by_text("1 engine alive")).to_be_visible()

    running = await client.start("queue_gated", {"gate": "queue"})
    delayed = await client.start("queue_flaky", {})
    card = page.locator(".depth-card")
    await expect(card.and_(page.locator('[data-state="running"]')).locator("strong")).to_have_text("1")
    await expect(card.and_(page.locator('[data-state="delayed"]')).locator("strong")).to_have_text("1")
    await expect(page.locator('tr[data-skill="t.gated"]')).to_contain_text("1")
    row = page.locator("table.queued tbody tr")
    await expect(row).to_contain_text("queue_flaky")
    await row.get_by_role("link", name="only").click()
    await expect(page).to_have_url(f"{engine.http_url}/runs/{delayed.id}?step=only")
    await expect(drawer(page).locator(".error-box")).to_contain_text("tried again")

    await client.cancel(delayed.id)
    skills.open_gate("queue")
    await running.result()
    await page.get_by_role("link", name="Queue", exact=True).click()
    await expect(page.get_by_text("Nothing waits and nothing runs")).to_be_visible()
    assert not console_errors


async def test_a_workflow_shows_what_a_change_reaches(
    page: Page, engine: EngineProcess, client: RunEngineClient, console_errors: list[str]
) -> None:
    """From the list to a workflow, to what a change names and what follows from it, to a step's definition."""
    await client.register_workflow(demo())
    await open_console(page, engine, "/workflows")
    await page.get_by_role("link", name="demo").click()
    await expect(page).to_have_url(f"{engine.http_url}/workflows/demo")
    await expect(page.locator(".node")).to_have_count(4)
    await page.get_by_role("link", name="music.update").click()
    await expect(node(page, "music")).to_have_attribute("data-reach", "seed")
    await expect(node(page, "mix")).to_have_attribute("data-reach", "downstream")
    await expect(node(page, "intro")).to_have_attribute("data-reach", "none")
    await expect(page.get_by_text("reaches 2 steps at most")).to_be_visible()
    await node(page, "music").click()
    await expect(drawer(page).get_by_label("input selector", exact=True)).to_contain_text("steps.plan.output")
    assert page.url == f"{engine.http_url}/workflows/demo?change=music.update&step=music"
    await page.keyboard.press("j")
    await expect(drawer(page).get_by_role("heading", name="intro")).to_be_visible()
    await page.keyboard.press("k")
    await page.keyboard.press("k")
    await expect(drawer(page).get_by_role("heading", name="plan")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(drawer(page)).to_have_count(0)
    await page.get_by_role("link", name="Its runs").click()
    await expect(page).to_have_url(f"{engine.http_url}/runs?workflow=demo")
    assert not console_errors


async def test_a_workflow_that_is_not_there(page: Page, engine: EngineProcess) -> None:
    """The page says so in the engine's words."""
    await open_console(page, engine, "/workflows/nowhere")
    await expect(page.get_by_role("alert")).to_contain_text("WORKFLOW_NOT_FOUND")
