"""Runs that are started in the console: in the chosen version, with the payload and the plan that were shown."""

import pytest
from playwright.async_api import Locator, Page, expect

from runengine_client import RunEngineClient
from runengine_client.pb.runengine.v1 import workflow_pb2

from ..e2e.workflows import DEMO, demo
from ..support.engine_process import TOKENS, EngineProcess
from .console import expect_status, open_console

pytestmark = pytest.mark.anyio


def newer() -> workflow_pb2.Workflow:
    """The demo without its mix, as a newer version."""
    workflow = demo()
    workflow.version = "1.1.0"
    del workflow.steps[-1]
    return workflow


async def opened(page: Page, engine: EngineProcess, path: str, token: str = TOKENS.admin) -> Locator:
    """The dialog, opened by its key on this page."""
    await open_console(page, engine, path, token)
    await expect(page.get_by_role("button", name="New run")).to_be_visible()
    await page.keyboard.press("n")
    return page.get_by_role("dialog", name="New run")


async def test_a_run_starts_as_planned(
    page: Page, engine: EngineProcess, client: RunEngineClient, console_errors: list[str]
) -> None:
    """What the payload has to have is offered, the plan is shown before anything starts, labels go along."""
    await client.register_workflow(demo())
    dialog = await opened(page, engine, f"/workflows/{DEMO}?version=1.0.0")
    payload = dialog.get_by_label("Payload")
    await expect(payload).to_have_value('{\n  "brief": null\n}')
    start = dialog.get_by_role("button", name="Start the run")
    await expect(start).to_be_disabled()
    await payload.fill('{"brief": ')
    await expect(dialog.get_by_role("alert")).to_contain_text("no JSON yet")
    await payload.fill('{"brief": "from the console"}')
    await dialog.get_by_label("Labels").fill("team")
    await expect(dialog.get_by_role("alert")).to_contain_text("key=value")
    await expect(start).to_be_disabled()
    await dialog.get_by_label("Labels").fill("team=growth made=console")
    await expect(dialog.locator(".plan-sum")).to_contain_text("execute")
    await page.mouse.click(5, 5)
    await expect(payload).to_have_value('{"brief": "from the console"}')
    assert [run.id async for run in client.list_runs(labels={"made": "console"})] == []

    await start.click()
    await expect_status(page, "mix", "completed")
    [run] = [run async for run in client.list_runs(labels={"made": "console"})]
    assert page.url == f"{engine.http_url}/runs/{run.id}"
    assert run.labels == {"team": "growth", "made": "console"}
    assert not console_errors


async def test_the_last_payload_is_a_click_away(
    page: Page, engine: EngineProcess, client: RunEngineClient, console_errors: list[str]
) -> None:
    """The list's filter chooses the workflow; with that payload all is reused, unless the cache is to be renewed."""
    await client.register_workflow(demo())
    last = await client.start(DEMO, {"brief": "again"})
    await last.result()
    dialog = await opened(page, engine, f"/runs?workflow={DEMO}")
    await expect(dialog.get_by_label("Workflow")).to_have_value(DEMO)
    await dialog.get_by_role("button", name="Take the payload of the last run").click()
    await expect(dialog.get_by_label("Payload")).to_have_value('{\n  "brief": "again"\n}')
    await expect(dialog.locator(".plan-sum")).to_have_text("4 reuse")
    await dialog.get_by_label("Cache").select_option("refresh")
    await expect(dialog.locator(".plan-sum")).to_contain_text("4 execute")
    await dialog.get_by_role("button", name="Start the run").click()
    await expect_status(page, "mix", "completed")
    assert last.id not in page.url
    assert not console_errors


async def test_a_run_is_started_again(page: Page, engine: EngineProcess, client: RunEngineClient) -> None:
    """A run's details offer its payload for a new run; the dialog hands the focus back when it closes."""
    await client.register_workflow(demo())
    old = await client.start(DEMO, {"brief": "details"})
    await old.result()
    other = await client.start(DEMO, {"brief": "a later one"})
    await other.result()
    await open_console(page, engine, f"/runs/{old.id}?tab=details")
    offer = page.get_by_role("button", name="New run with this payload")
    await offer.click()
    dialog = page.get_by_role("dialog", name="New run")
    await expect(dialog.get_by_label("Workflow")).to_be_focused()
    await expect(dialog.get_by_label("Payload")).to_have_value('{\n  "brief": "details"\n}')
    await expect(dialog.locator(".plan-sum")).to_have_text("4 reuse")
    await page.keyboard.press("Escape")
    await expect(offer).to_be_focused()


async def test_the_version_is_the_one_that_was_shown(
    page: Page, engine: EngineProcess, client: RunEngineClient
) -> None:
    """A version that is registered while the dialog is open does not slip in, and an older one can be chosen."""
    await client.register_workflow(demo())
    dialog = await opened(page, engine, f"/workflows/{DEMO}?version=1.0.0")
    await client.register_workflow(newer())
    await dialog.get_by_label("Payload").fill('{"brief": "versions"}')
    await expect(dialog.locator('.plan-row[data-step="mix"]')).to_be_visible()
    await dialog.get_by_label("Version").fill("9.9.9")
    await dialog.get_by_label("Version").press("Tab")
    await expect(dialog.get_by_role("alert")).to_contain_text("WORKFLOW_NOT_FOUND")
    await dialog.get_by_label("Version").fill("")
    await dialog.get_by_label("Version").press("Tab")
    await dialog.get_by_label("Payload").fill('{"brief": "versions"}')
    await expect(dialog.locator(".plan-row")).to_have_count(3)
    await dialog.get_by_role("button", name="Start the run").click()
    await expect(page.locator(".run-head .pill")).to_have_text("completed")
    run = await client.get_run(page.url.rpartition("/")[2])
    assert run.workflow_version == "1.1.0"


async def test_refusals_are_told_in_the_engines_words(
    page: Page, engine: EngineProcess, client: RunEngineClient
) -> None:
    """A payload that the schema refuses is named by its place; who may only read is told so, and nothing starts."""
    await client.register_workflow(demo())
    dialog = await opened(page, engine, f"/workflows/{DEMO}")
    await dialog.get_by_label("Payload").fill('{"other": 1}')
    await expect(dialog.get_by_role("alert")).to_contain_text("PAYLOAD_SCHEMA_MISMATCH")
    await expect(dialog.get_by_role("alert")).to_contain_text("brief")
    await expect(dialog.get_by_role("button", name="Start the run")).to_be_disabled()
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)

    dialog = await opened(page, engine, f"/workflows/{DEMO}?as=reader", TOKENS.reader)
    await dialog.get_by_label("Payload").fill('{"brief": "mine"}')
    await expect(dialog.get_by_role("alert")).to_contain_text("SCOPE_REQUIRED")
