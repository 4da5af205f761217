"""What every browser test relies on: the page reaches the engine, its errors are seen, nothing outside is reached."""

import pytest
from playwright.async_api import Error, Page

from ..support.engine_process import EngineProcess


@pytest.mark.anyio
async def test_a_page_reaches_the_engine(engine: EngineProcess, page: Page) -> None:
    """Chromium gets the engine's answers over HTTP."""
    answer = await page.goto(f"{engine.http_url}/api/v1/runs")
    assert answer is not None
    assert answer.status == 401


@pytest.mark.anyio
async def test_errors_of_a_page_are_noted(page: Page, console_errors: list[str]) -> None:
    """Console errors and uncaught exceptions end in `console_errors`, other lines do not."""
    await page.evaluate(
        "() => { console.log('fine'); console.error('first'); setTimeout(() => { throw Error('second') }) }"
    )
    await page.wait_for_function("() => true")
    await page.evaluate("() => new Promise(resolve => setTimeout(resolve))")
    assert [error.split(" (")[0] for error in console_errors] == ["first", "second"]


@pytest.mark.anyio
async def test_nothing_outside_is_reached(page: Page) -> None:
    """A page that asks another machine for something fails, so that no test passes by way of the internet."""
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        await page.goto("http://example.com/")
