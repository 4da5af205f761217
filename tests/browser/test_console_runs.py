"""The console's list of runs: what it shows, how it is narrowed, that it is live, and that keys suffice."""

import re

import anyio
import pytest
from playwright.async_api import Page, Route, expect

from runengine_client import RunEngineClient

from ..e2e.workflows import DEMO, demo, gated
from ..support.engine_process import EngineProcess
from ..support.skill_server_process import SkillServerProcess
from .console import open_console

pytestmark = pytest.mark.anyio

ROWS = "table.runs tbody tr"


@pytest.fixture
async def made(client: RunEngineClient) -> dict[str, str]:
    """A completed run, and an update of it, by name."""
    await client.register_workflow(demo())
    first = await client.start(DEMO, {"brief": "a"}, labels={"team": "growth"})
    await first.result()
    update = await client.start_update(first.id, "music.update", {"style": "loud"})
    await update.result()
    return {"first": first.id, "update": update.id}


async def test_rows_and_filters(
    page: Page, engine: EngineProcess, made: dict[str, str], console_errors: list[str]
) -> None:
    """Each run is a row with status, change, base and savings; filters are in the address and can be shared."""
    await open_console(page, engine, f"/runs?workflow={DEMO}")
    update = page.locator(ROWS).filter(has_text=made["update"][:8]).filter(has_text="music.update")
    await expect(update).to_contain_text("completed")
    await expect(update).to_contain_text(f"of {made['first'][:8]}")
    await expect(update).to_contain_text("4/4")

    await page.get_by_label("Trigger").select_option("update")
    await expect(page.locator(ROWS).filter(has_not_text="music.update")).to_have_count(0)
    await expect(update).to_be_visible()
    assert "trigger=update" in page.url

    await page.get_by_role("button", name="Clear").click()
    await page.get_by_label("Labels").fill("team=growth")
    await page.get_by_label("Labels").press("Enter")
    await expect(update).to_have_count(0)
    await expect(page.locator(ROWS).filter(has_text=made["first"][:8])).to_have_count(1)

    await page.goto(f"{engine.http_url}/runs?status=failed,cancelled&since=1h")
    await expect(page.get_by_text("No run matches")).to_be_visible()
    await expect(page.get_by_role("button", name="failed")).to_have_attribute("aria-pressed", "true")
    await page.get_by_role("button", name="failed").click()
    await expect(page).to_have_url(re.compile(r"status=cancelled&since=1h"))
    assert not console_errors


async def test_a_row_is_live(
    page: Page, engine: EngineProcess, client: RunEngineClient, skills: SkillServerProcess
) -> None:
    """A run that is started while the list is open appears, and its row follows it to its end."""
    await client.register_workflow(gated())
    await open_console(page, engine, "/runs?workflow=gated")
    await expect(page.locator(".connection")).to_have_text("Live")
    run = await client.start("gated", {"gate": "list"})
    row = page.locator(ROWS).filter(has_text=run.id[:8])
    await expect(row).to_contain_text("running")
    await expect(row).to_contain_text("0/2")
    skills.open_gate("list")
    await expect(row).to_contain_text("completed")
    await expect(row).to_contain_text("2/2")


async def test_keys_suffice(page: Page, engine: EngineProcess, made: dict[str, str]) -> None:
    """`j` and `k` move the focus along the rows, Enter opens the run."""
    await open_console(page, engine, f"/runs?base={made['first']}")
    await expect(page.locator(ROWS)).to_have_count(1)
    await page.keyboard.press("j")
    focused = page.locator(":focus")
    await expect(focused).to_have_attribute("data-run", made["update"])
    await page.keyboard.press("k")
    await expect(focused).to_have_attribute("data-run", made["update"])
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{engine.http_url}/runs/{made['update']}")


async def test_what_is_typed_outlasts_what_arrives(page: Page, engine: EngineProcess, made: dict[str, str]) -> None:
    """A filter that is not finished stays as it is typed when the names of the workflows arrive late."""
    typed = anyio.Event()

    async def answer_late(route: Route) -> None:
        await typed.wait()
        await route.continue_()

    await page.route("**/api/v1/workflows?*", answer_late)
    await open_console(page, engine, "/runs")
    labels = page.get_by_label("Labels")
    await labels.press_sequentially("team=")
    typed.set()
    await expect(page.get_by_label("Workflow").locator("option")).not_to_have_count(1)
    await labels.press_sequentially("growth")
    await expect(labels).to_have_value("team=growth")
    await labels.press("Enter")
    await expect(page.locator(ROWS).filter(has_text=made["update"][:8])).to_have_count(0)
    await expect(page.locator(ROWS).filter(has_text=made["first"][:8])).to_have_count(1)


async def test_older_runs_are_a_page_away(page: Page, engine: EngineProcess, client: RunEngineClient) -> None:
    """Fifty runs are a page; the next one has an address of its own, and leads back."""
    await client.register_workflow(demo())
    for number in range(51):
        await client.start(DEMO, {"brief": "paged"}, labels={"paged": "yes", "number": str(number)})
    await open_console(page, engine, "/runs?labels=paged%3Dyes")
    await expect(page.locator(ROWS)).to_have_count(50)
    await page.get_by_role("link", name="Older").click()
    await expect(page.locator(ROWS)).to_have_count(1)
    await page.reload()
    await expect(page.locator(ROWS)).to_have_count(1)
    await page.get_by_role("link", name="Newest").click()
    await expect(page.locator(ROWS)).to_have_count(50)


async def test_a_retry_of_an_update_is_a_retry(
    page: Page, engine: EngineProcess, client: RunEngineClient, skills: SkillServerProcess
) -> None:
    """What began a run is told even where it carries the change request of the run that it finishes."""
    workflow = gated("runs_retried")
    workflow.change_requests.add(type="gate.update", seed_step_ids=["wait"])
    await client.register_workflow(workflow)
    skills.open_gate("runs-retried-base")
    base = await client.start("runs_retried", {"gate": "runs-retried-base"})
    await base.result()
    update = await client.start_update(base.id, "gate.update", {"gate": "runs-retried-update"})
    await client.cancel(update.id)
    skills.open_gate("runs-retried-update")
    retry = await client.retry(update.id)
    await retry.result()
    await open_console(page, engine, "/runs?workflow=runs_retried")
    for run_id, chip in ((base.id, "initial"), (update.id, "gate.update"), (retry.id, "retry")):
        row = page.locator(ROWS).filter(has=page.locator(f'.run-id[data-run="{run_id}"]'))
        await expect(row.locator(".trigger .chip")).to_have_text(chip)
