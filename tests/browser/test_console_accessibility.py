"""The console for people who see little or nothing: every page, light and dark, held to WCAG by axe."""

import pytest
from playwright.async_api import Browser, Page, expect

from runengine_client import RunEngineClient

from ..e2e.workflows import DEMO, demo
from ..support.browser import REPOSITORY, open_page
from ..support.engine_process import EngineProcess
from .console import open_console

pytestmark = pytest.mark.anyio

AXE = REPOSITORY / "web" / "console" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

VIEWS = (
    "/runs?workflow=demo",
    "/runs/{run}?step=music",
    "/runs/{run}?tab=timeline",
    "/runs/{run}?tab=steps",
    "/runs/{run}?tab=events",
    "/runs/{run}?tab=compare",
    "/runs/{run}?tab=artifacts",
    "/runs/{run}?tab=details",
    "/queue",
    "/workflows",
    "/workflows/demo?change=music.update&step=music",
)


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that looks; without it the test is skipped: `no node packages`."""
    if not AXE.exists():
        pytest.skip("no node packages")
    return AXE.read_text()


async def violations(page: Page, axe: str) -> list[str]:
    """What axe finds, as rule and place."""
    await page.evaluate(axe)
    found = await page.evaluate("(tags) => axe.run({ runOnly: tags })", RULES)
    return [f"{rule['id']}: {place['target']}" for rule in found["violations"] for place in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_usable_by_all(
    chromium: Browser, engine: EngineProcess, client: RunEngineClient, scheme: str, axe: str
) -> None:
    """Names, roles and contrasts are such that axe has nothing to say against them."""
    await client.register_workflow(demo())
    base = await client.start(DEMO, {"brief": scheme})
    await base.result()
    update = await client.start_update(base.id, "music.update", {"style": "loud"})
    await update.result()
    errors: list[str] = []
    async with open_page(chromium, errors, color_scheme=scheme, reduced_motion="reduce") as page:
        found = []
        for view in VIEWS:
            await open_console(page, engine, view.replace("{run}", update.id))
            await expect(page.locator(".connection")).to_have_text("Live" if "{run}" not in view else "Up to date")
            await expect(page.locator(".loading")).to_have_count(0)
            found += [f"{view}: {place}" for place in await violations(page, axe)]
        await open_console(page, engine, f"/runs/{update.id}")
        await page.get_by_role("button", name="Update").click()
        await expect(page.locator(".plan-sum")).to_be_visible()
        found += [f"update: {place}" for place in await violations(page, axe)]
        await page.keyboard.press("Escape")
        await open_console(page, engine, f"/runs/{update.id}?tab=details")
        await page.get_by_role("button", name="New run").click()
        await expect(page.locator(".plan-sum")).to_be_visible()
        found += [f"new run: {place}" for place in await violations(page, axe)]
        assert "\n".join(found) == ""
    assert errors == []


async def test_pages_fit_a_narrow_window(page: Page, engine: EngineProcess, client: RunEngineClient) -> None:
    """In a window as narrow as a phone, or as one that is magnified fourfold, no page scrolls to the side."""
    await client.register_workflow(demo())
    run = await client.start(DEMO, {"brief": "narrow"}, labels={"campaign": "summer"})
    await run.result()
    await page.set_viewport_size({"width": 320, "height": 640})
    too_wide = []
    for view in VIEWS:
        await open_console(page, engine, view.replace("{run}", run.id))
        await expect(page.locator(".connection")).to_have_text("Live" if "{run}" not in view else "Up to date")
        await expect(page.locator(".loading")).to_have_count(0)
        if not await page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
            too_wide.append(view)
    assert too_wide == []
    await page.get_by_role("link", name="Runs", exact=True).click()
    await page.route("**/api/**", lambda route: route.abort())
    await expect(page.locator(".connection")).to_contain_text("Reconnecting")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
