"""The web console as tests open it, and what they ask of its pages."""

from playwright.async_api import Locator, Page, expect

from ..support.browser import WAIT_S_MAX
from ..support.engine_process import TOKENS, EngineProcess

expect.set_options(timeout=WAIT_S_MAX * 1000)


async def open_console(page: Page, engine: EngineProcess, path: str, token: str = TOKENS.admin) -> None:
    """The page shows this path of the console, signed in."""
    await page.goto(f"{engine.http_url}{path}#token={token}")


def node(page: Page, step_id: str) -> Locator:
    """A step in the graph."""
    return page.locator(f'.node[data-step="{step_id}"]')


async def expect_status(page: Page, step_id: str, status: str) -> None:
    """The graph shows the step in this status, now or soon."""
    await expect(node(page, step_id)).to_have_attribute("data-status", status)


def drawer(page: Page) -> Locator:
    """The drawer of the selected step."""
    return page.locator("aside.drawer")
