"""Takes the pictures of the console in docs/images anew, from campaigns that it starts: `source .dev/env`, then this.

Needs a fresh `make dev`, Chromium, and the extras `test` and `campaign`.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE = {"width": 1360, "height": 820}
URL, TOKEN = os.environ["RUNENGINE_URL"], os.environ["TOKEN"]

Act = Callable[[Page], Awaitable[Any]]


class Api:
    """The engine's REST interface."""

    def __init__(self) -> None:
        """Connect to the engine of the environment."""
        self._http = httpx.Client(base_url=f"{URL}/api/v1", headers={"authorization": f"Bearer {TOKEN}"})

    def campaign(self, title: str, style: str, **options: Any) -> str:
        """A campaign has been started."""
        payload = {"campaignId": "summer-2026", "brief": {"title": title, "style": style}}
        return self._post("/runs", {"workflowName": "campaign.build.v1", "triggerPayload": payload, **options})

    def update(self, run: str, change: str, payload: dict[str, Any], **options: Any) -> str:
        """A change has been started."""
        return self._post(f"/runs/{run}/update", {"changeRequest": {"type": change, "payload": payload}, **options})

    async def completed(self, run: str) -> str:
        """The run has ended."""
        while self._http.get(f"/runs/{run}").json()["status"] in ("queued", "running"):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        return run

    def artifact(self, run: str, filename: str) -> str:
        """The id of a file that the run made."""
        found = self._http.get(f"/runs/{run}/artifacts", params={"pageSize": 100}).raise_for_status().json()
        return str(next(each["id"] for each in found["artifacts"] if each["filename"] == filename))

    def cancel(self, run: str, reason: str) -> None:
        """The run is being cancelled."""
        self._http.post(f"/runs/{run}/cancel", json={"reason": reason}).raise_for_status()

    def _post(self, path: str, body: dict[str, Any]) -> str:
        return str(self._http.post(path, json=body).raise_for_status().json()["runId"])


async def take(
    browser: Browser, name: str, path: str, ready: str, *, dark: bool = False, act: Act | None = None
) -> None:
    """The picture of a page, once it shows what is waited for; packed as small as it gets."""
    context = await browser.new_context(viewport=SIZE, color_scheme="dark" if dark else "light")  # type: ignore[arg-type]
    page = await context.new_page()
    await page.goto(f"{URL}{path}#token={TOKEN}")
    await page.locator(ready).first.wait_for()
    if act is not None:
        await act(page)
    await page.wait_for_timeout(400)
    file = IMAGES / f"console-{name}.png"
    await page.screenshot(path=file)
    await context.close()
    Image.open(file).convert("RGB").save(file, optimize=True)


async def type_update(page: Page) -> None:
    """The dialog shows the plan of a change of the music."""
    await page.get_by_role("button", name="Update").click()
    await page.get_by_label("Payload").fill('{\n  "audioStyle": "retro",\n  "volumeBoost": 1.1\n}')
    await page.locator('.plan-row[data-action="execute"]').first.wait_for()


async def main() -> None:
    """All pictures have been taken."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    api = Api()
    base = await api.completed(api.campaign("Summer Sale", "energetic", labels={"team": "growth"}))
    music = await api.completed(api.update(base, "audio.update", {"audioStyle": "epic", "volumeBoost": 1.2}))
    await api.completed(api.update(music, "intro.update", {"introText": "Last days of summer"}))
    await api.completed(api.campaign("Summer Sale", "energetic", labels={"team": "brand"}))
    stopped = api.campaign("Winter Games", "retro")
    await asyncio.sleep(0.8)
    api.cancel(stopped, "another brief")
    await api.completed(stopped)
    async with async_playwright() as playwright:
        path = shutil.which("chromium")
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        step = f"/runs/{music}?step=generate_bgm_track"
        await take(browser, "step", step, ".drawer .cache-card", dark=True)
        await take(browser, "update", f"/runs/{base}", ".node", act=type_update)
        model = api.artifact(base, "gift.glb")
        await take(
            browser, "artifact", f"/runs/{base}?tab=artifacts&artifact={model}", '[data-state="shown"]', dark=True
        )
        live = api.campaign("Autumn Fair", "calm", labels={"team": "growth"})
        await take(browser, "run", f"/runs/{live}", ".node.s-completed")
        await take(browser, "timeline", f"/runs/{live}?tab=timeline", ".time-bar", dark=True)
        for number in range(4):
            api.campaign(f"Fair {number}", "retro")
        await take(browser, "queue", "/queue", 'tr[data-skill="video.generate_outcome_win"]')
        await take(browser, "runs", "/runs", "table.runs .s-running")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
