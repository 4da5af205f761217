"""What the console starts and ends: updates and retries as they were planned, cancels with their reason."""

import json

import pytest
from playwright.async_api import Page, expect

from runengine_client import RunEngineClient
from runengine_client.workflow import WorkflowBuilder, expression

from ..e2e.workflows import DEMO, demo, gated, single
from ..support.engine_process import TOKENS, EngineProcess
from ..support.skill_server_process import SkillServerProcess
from .console import expect_status, node, open_console

pytestmark = pytest.mark.anyio


@pytest.fixture
async def base(client: RunEngineClient) -> str:
    """A completed run."""
    await client.register_workflow(demo())
    run = await client.start(DEMO, {"brief": "actions"})
    await run.result()
    return run.id


async def test_an_update_shows_its_plan_first(
    page: Page, engine: EngineProcess, client: RunEngineClient, base: str, console_errors: list[str]
) -> None:
    """The plan follows what is typed; nothing runs before it is confirmed, and then exactly that."""
    await open_console(page, engine, f"/runs/{base}")
    await page.get_by_role("button", name="Update").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.locator(".plan-sum")).to_have_text("4 reuse")
    await dialog.get_by_label("Payload").fill('{"style": ')
    await expect(dialog.get_by_role("alert")).to_contain_text("no JSON yet")
    await expect(dialog.get_by_role("button", name="Start the update")).to_be_disabled()
    await dialog.get_by_label("Payload").fill('{"style": "planned"}')
    await expect(dialog.locator(".plan-sum")).to_contain_text("1 execute")
    music = dialog.locator('.plan-row[data-step="music"]')
    await expect(music).to_have_attribute("data-action", "execute")
    await expect(music).to_contain_text("/style")
    await expect(dialog.locator('.plan-row[data-step="mix"]')).to_have_attribute("data-action", "unknown")
    assert [run.id async for run in client.list_runs(base_run_id=base)] == []

    await dialog.get_by_role("button", name="Start the update").click()
    await expect(page).not_to_have_url(f"{engine.http_url}/runs/{base}")
    await expect_status(page, "music", "completed")
    await expect_status(page, "intro", "skipped")
    [update] = [run async for run in client.list_runs(base_run_id=base)]
    assert page.url == f"{engine.http_url}/runs/{update.id}"
    assert not console_errors


async def test_an_update_begins_with_what_is_there(page: Page, engine: EngineProcess, client: RunEngineClient) -> None:
    """Fields are offered with the base's values: of its payload, or what its steps took without them; else neutral."""
    number = {"type": "number", "minimum": 0.1, "maximum": 4}
    schema = {"title": {"type": "string"}, "style": {"type": "string"}, "boost": number, "unread": number}
    given = {
        "title": expression("trigger.title"),
        "style": expression("has(trigger.style) ? trigger.style : trigger.title + '!'"),
        "nested": {"boost": expression("trigger.?boost.orValue(1.5)")},
        "louder": expression("trigger.?unread.orValue(2.5) + 1.0"),
    }
    await client.register_workflow(
        WorkflowBuilder("offering", version="1.0.0", trigger_schema={"type": "object", "properties": schema})
        .step("only", skill="t.echo", input=given)
        .change("change", seeds=["only"])
        .build()
    )
    run = await client.start("offering", {"title": "here"})
    await run.result()
    await open_console(page, engine, f"/runs/{run.id}")
    await page.get_by_role("button", name="Update").click()
    offered = page.get_by_role("dialog").locator(".offered")
    for name in schema:
        await offered.get_by_role("button", name=name).click()
        await expect(offered.get_by_role("button", name=name)).to_have_count(0)
    payload = json.loads(await page.get_by_label("Payload").input_value())
    assert payload == {"title": "here", "style": "here!", "boost": 1.5, "unread": 1}


async def test_a_plan_that_changed_is_shown_again(
    page: Page, engine: EngineProcess, client: RunEngineClient, base: str
) -> None:
    """When the world changes between plan and confirmation, nothing starts: the plan as it is now is shown."""
    await open_console(page, engine, f"/runs/{base}")
    await expect(node(page, "music")).to_be_visible()
    await page.keyboard.press("a")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Payload").fill('{"style": "overtaken"}')
    await expect(dialog.locator(".plan-sum")).to_contain_text("1 execute")
    overtaking = await client.start_update(base, "music.update", {"style": "overtaken"})
    await overtaking.result()
    await dialog.get_by_role("button", name="Start the update").click()
    await expect(dialog.locator(".plan-changed")).to_be_visible()
    await expect(dialog.locator('.plan-row[data-step="music"]')).to_contain_text("in the cache")
    assert [run.id async for run in client.list_runs(base_run_id=base)] == [overtaking.id]
    await dialog.get_by_role("button", name="Start the update").click()
    await expect(page.locator(".run-head .pill")).to_have_text("completed")


async def test_a_lost_answer_starts_nothing_twice(
    page: Page, engine: EngineProcess, client: RunEngineClient, base: str
) -> None:
    """When the answer to a confirmation is lost, confirming again finds the run that was started."""
    await open_console(page, engine, f"/runs/{base}")
    await expect(node(page, "music")).to_be_visible()
    await page.keyboard.press("a")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Payload").fill('{"style": "lost"}')
    await expect(dialog.locator(".plan-sum")).to_contain_text("1 execute")

    async def lose(route: object) -> None:
        await route.fetch()  # type: ignore[attr-defined]
        await route.abort()  # type: ignore[attr-defined]

    await page.route("**/update", lose, times=1)
    confirm = dialog.get_by_role("button", name="Start the update")
    await confirm.click()
    await expect(dialog.get_by_role("alert")).to_contain_text("does not answer")
    [started] = [run async for run in client.list_runs(base_run_id=base)]
    await confirm.click()
    await expect(page).to_have_url(f"{engine.http_url}/runs/{started.id}")
    assert [run.id async for run in client.list_runs(base_run_id=base)] == [started.id]


async def test_cancel_and_retry(
    page: Page, engine: EngineProcess, client: RunEngineClient, skills: SkillServerProcess, console_errors: list[str]
) -> None:
    """A running run is cancelled with a reason after a question; its retry says what it will execute, and does."""
    await client.register_workflow(gated("actions_gated"))
    run = await client.start("actions_gated", {"gate": "actions"})
    await open_console(page, engine, f"/runs/{run.id}")
    await expect_status(page, "wait", "running")
    await page.get_by_role("button", name="Cancel…").click()
    await page.get_by_role("button", name="Keep it").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.get_by_role("button", name="Cancel…").click()
    await page.get_by_label("Reason").fill("wrong gate")
    await page.get_by_role("button", name="Cancel the run").click()
    await expect(page.locator(".run-head")).to_contain_text("wrong gate")
    await expect(page.locator(".run-head .pill")).to_have_text("cancelled")

    skills.open_gate("actions")
    await page.get_by_role("button", name="Retry…").click()
    await expect(page.get_by_role("dialog").locator(".plan-sum")).to_contain_text("execute")
    await page.get_by_role("button", name="Start the retry").click()
    await expect(page.locator(".run-head .pill")).to_have_text("completed")
    assert run.id not in page.url
    assert not console_errors


async def test_a_reader_is_refused_in_words(page: Page, engine: EngineProcess, client: RunEngineClient) -> None:
    """A token that may only read sees the run; what it may not do is refused in the engine's words."""
    await client.register_workflow(single("refused", skill="t.gated", input={"gate": "never"}))
    run = await client.start("refused", {})
    await open_console(page, engine, f"/runs/{run.id}", TOKENS.reader)
    await page.get_by_role("button", name="Cancel…").click()
    await page.get_by_role("button", name="Cancel the run").click()
    await expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("SCOPE_REQUIRED")
    await client.cancel(run.id)
