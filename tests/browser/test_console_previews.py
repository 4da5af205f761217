"""What a campaign's steps made, seen in the console: pictures, sounds, films and models are what they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from runengine_client.workflow import load_workflow

from ..support.browser import REPOSITORY
from ..support.campaign_skills import CampaignSkills
from ..support.engine_process import EngineProcess, EngineSettings
from .console import open_console

pytest.importorskip("av", reason="the campaign extra is not installed")
pytestmark = pytest.mark.anyio

WORKFLOW = REPOSITORY / "examples" / "campaign" / "campaign.build.v1.yaml"


@pytest.fixture(scope="module")
def skills(folder: Path) -> Iterator[CampaignSkills]:
    """The campaign's skills instead of scripted ones."""
    with CampaignSkills(folder) as process:
        yield process


@pytest.fixture(scope="module")
def engine_settings(stack: Any, fresh_database_url: str, skills: CampaignSkills, folder: Path) -> EngineSettings:
    """An engine that may read what the skills store."""
    return EngineSettings(
        database_url=fresh_database_url,
        redis_url=stack.redis_url,
        skills=f"*=grpc://{skills.address}",
        folder=folder,
        environment={"RUNENGINE_ARTIFACT_STORE": (folder / "artifacts").resolve().as_uri()},
    )


@pytest.fixture(scope="module")
async def campaign(engine: EngineProcess) -> str:
    """A completed campaign."""
    async with engine.client() as client:
        await client.register_workflow(load_workflow(WORKFLOW))
        run = await client.start("campaign.build.v1", {"brief": {"title": "Seen", "style": "retro"}})
        await run.result()
        return run.id


def move(uri: str, to: Path) -> None:
    """The artifact's file is elsewhere."""
    Path(uri.removeprefix("file://")).rename(to)


async def open_artifact(page: Page, engine: EngineProcess, run: str, filename: str) -> None:
    """The artifact's preview is open."""
    await open_console(page, engine, f"/runs/{run}?tab=artifacts")
    await page.locator(".artifact-row").filter(has_text=filename).click()
    await expect(page.get_by_role("heading", name=filename)).to_be_visible()


async def test_pictures(page: Page, engine: EngineProcess, campaign: str, console_errors: list[str]) -> None:
    """A picture is shown in full, and small in the list; downloading it gives a file of its name."""
    await open_artifact(page, engine, campaign, "intro.png")
    shown = page.locator("img.preview-image")
    await expect(shown).to_have_js_property("complete", value=True)
    await expect(shown).to_have_js_property("naturalWidth", 960)
    thumbnail = page.locator(".artifact-row", has_text="intro.png").locator("img.artifact-kind")
    await expect(thumbnail).to_have_js_property("naturalWidth", 960)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download").click()
    assert (await download.value).suggested_filename == "intro.png"
    assert not console_errors


@pytest.mark.parametrize(("filename", "element", "seconds"), [("bgm.wav", "audio", 5), ("intro_loop.mp4", "video", 2)])
async def test_sounds_and_films(
    page: Page,
    engine: EngineProcess,
    campaign: str,
    console_errors: list[str],
    filename: str,
    element: str,
    seconds: int,
) -> None:
    """The browser knows how long it is, and can go to its middle: the content is served in parts."""
    await open_artifact(page, engine, campaign, filename)
    media = page.locator(f".preview {element}")
    await expect(media).not_to_have_js_property("readyState", 0)
    assert await media.evaluate("media => media.duration") > seconds
    await media.evaluate(
        "media => new Promise((resolve) => { media.addEventListener('seeked', resolve); media.currentTime = 1; })"
    )
    assert not console_errors


async def test_models(page: Page, engine: EngineProcess, campaign: str, console_errors: list[str]) -> None:
    """A 3D model is drawn, by code that comes only then; keys turn it."""
    scripts: list[str] = []
    page.on("request", lambda request: scripts.append(request.url) if "model_preview" in request.url else None)
    await open_console(page, engine, f"/runs/{campaign}?tab=artifacts")
    await expect(page.locator(".artifact-row").first).to_be_visible()
    assert scripts == []
    await page.locator(".artifact-row").filter(has_text="optimized_").click()
    await expect(page.locator(".preview-model")).to_have_attribute("data-state", "shown")
    assert len(scripts) == 1
    canvas = page.locator(".preview-model canvas")
    await canvas.press("ArrowLeft")
    assert len(set(await canvas.screenshot())) > 100
    assert not console_errors


async def test_text(page: Page, engine: EngineProcess, campaign: str) -> None:
    """JSON is laid out."""
    await open_artifact(page, engine, campaign, "game_config.json")
    await expect(page.get_by_label("content", exact=True)).to_contain_text('"roundSeconds"')


async def test_a_token_that_ran_out_is_renewed(page: Page, engine: EngineProcess, campaign: str) -> None:
    """When an address no longer opens the content, the page gets another one by itself."""
    refused: list[str] = []

    async def refuse_once(route: Route) -> None:
        if "access_token" in route.request.url and not refused:
            refused.append(route.request.url)
            await route.fulfill(status=401, body="")
        else:
            await route.continue_()

    await page.route("**/content?**", refuse_once)
    await open_artifact(page, engine, campaign, "intro.png")
    await expect(page.locator("img.preview-image")).to_have_js_property("naturalWidth", 960)
    assert refused


async def test_content_that_is_gone_is_told(page: Page, engine: EngineProcess, campaign: str, folder: Path) -> None:
    """An artifact whose bytes were removed says so in the engine's words."""
    async with engine.client() as client:
        [gone] = [each async for each in client.list_artifacts(campaign) if each.filename == "sfx_click.wav"]
    move(gone.uri, folder / "elsewhere.wav")
    await open_artifact(page, engine, campaign, "sfx_click.wav")
    await expect(page.get_by_role("alert").first).to_contain_text("ARTIFACT_GONE")
