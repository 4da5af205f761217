"""The console's frame: signing in, light and dark, keys, addresses."""

import pytest
from playwright.async_api import Browser, Page, expect

from ..support.browser import open_page
from ..support.engine_process import TOKENS, EngineProcess
from .console import open_console

pytestmark = pytest.mark.anyio

REFUSED = "status of 401"
"""What Chromium itself writes to the console of a request without a valid token."""


async def test_a_token_in_the_address_is_removed(page: Page, engine: EngineProcess, console_errors: list[str]) -> None:
    """The fragment's token signs in, and neither the address nor the history keeps it; a reload stays signed in."""
    await open_console(page, engine, "/runs?status=failed")
    await expect(page.get_by_text("No run matches")).to_be_visible()
    assert page.url == f"{engine.http_url}/runs?status=failed"
    assert TOKENS.admin not in await page.evaluate("JSON.stringify(history.state) + location.href")
    await page.reload()
    await expect(page.get_by_text("No run matches")).to_be_visible()
    assert not console_errors


async def test_a_token_is_asked_for_once(page: Page, engine: EngineProcess, console_errors: list[str]) -> None:
    """Without a token the page asks; a wrong one is refused in the engine's words; the right one shows the page.

    Whoever signs out leaves nothing to be seen, and no page that goes on asking.
    """
    await page.goto(f"{engine.http_url}/runs")
    dialog = page.get_by_role("dialog", name="Sign in")
    await dialog.get_by_label("Token").fill("nonsense")
    await dialog.get_by_label("Token").press("Enter")
    await expect(dialog.get_by_text("token")).not_to_have_count(0)
    await dialog.get_by_label("Token").fill(TOKENS.reader)
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    await expect(dialog).to_have_count(0)
    await page.get_by_role("button", name="Sign out").click()
    await expect(dialog).to_be_visible()
    await expect(page.locator("main > *")).to_have_count(0)
    assert await page.evaluate("sessionStorage.length") == 0
    assert [error for error in console_errors if REFUSED not in error] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_light_and_dark(chromium: Browser, engine: EngineProcess, scheme: str) -> None:
    """The page follows the system until somebody chooses, and the choice outlasts a reload."""
    errors: list[str] = []
    async with open_page(chromium, errors, color_scheme=scheme) as page:
        await open_console(page, engine, "/runs")
        await expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
        brightness = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)[0] > 128"
        assert await page.evaluate(brightness) is (scheme == "light")
        theme = page.get_by_role("button", name="Theme")
        await theme.click()
        assert await page.evaluate(brightness) is True
        await theme.click()
        await page.reload()
        await expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
        assert await page.evaluate(brightness) is False
    assert errors == []


async def test_keys_lead_everywhere(page: Page, engine: EngineProcess, console_errors: list[str]) -> None:
    """`?` lists the keys, `g w` and `g r` go to pages, and keys typed into a field stay there."""
    await open_console(page, engine, "/runs")
    await expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    await page.keyboard.press("?")
    help_dialog = page.get_by_role("dialog", name="Keys")
    await expect(help_dialog.get_by_text("Go to workflows")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(help_dialog).to_have_count(0)
    await page.keyboard.press("g")
    await page.keyboard.press("w")
    await expect(page).to_have_url(f"{engine.http_url}/workflows")
    await page.go_back()
    await expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    await page.keyboard.press("/")
    await page.keyboard.type("g=w")
    await expect(page.get_by_label("Labels")).to_have_value("g=w")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{engine.http_url}/runs?labels=g%3Dw")
    assert not console_errors


@pytest.mark.parametrize("run", ["00000000-0000-4000-8000-000000000000", "nonsense"])
async def test_an_address_that_leads_nowhere(page: Page, engine: EngineProcess, run: str) -> None:
    """Of a run that is not there, or another tenant's, the page says so once and leads to the list; it asks no more."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/" in request.url else None)
    await page.clock.install()
    await open_console(page, engine, f"/runs/{run}")
    await expect(page.get_by_role("heading", name="There is no such run")).to_be_visible()
    await expect(page.locator(".connection")).to_have_text("Up to date")
    await page.clock.run_for(60_000)
    assert len(asked) == 1
    await page.get_by_role("main").get_by_role("link", name="All runs").click()
    await expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
