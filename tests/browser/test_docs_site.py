"""The documentation site in a real browser that reaches nothing else: pages show, and the search finds."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from ..support.docs_site import build_site
from .watch_page import served

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Where the site is served."""
    with served(build_site()) as url:
        yield url


async def test_it_reads_without_a_network(page: Page, site: str, console_errors: list[str]) -> None:
    """From the first page a reader comes to the quickstart, sees pictures, and finds words, all from the site."""
    left: list[str] = []
    page.on("request", lambda request: None if request.url.startswith((site, "data:")) else left.append(request.url))
    await page.goto(site)
    picture = page.get_by_alt_text("A run of the campaign while six of its steps run")
    assert await picture.evaluate("image => image.complete && image.naturalWidth") > 0
    await page.get_by_role("navigation").get_by_role("link", name="Quickstart").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Quickstart")
    await page.get_by_role("textbox", name="Search").fill("watch token")
    await expect(page.locator(".md-search-result__item").first).to_be_visible()
    assert left == []
    assert console_errors == []
