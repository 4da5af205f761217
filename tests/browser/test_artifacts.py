"""Artifacts in a real browser: pages and drawings that skills made are shown, and can do nothing."""

import struct
import uuid
from base64 import b64encode
from collections.abc import Iterator

import pytest
from playwright.async_api import Page

from runengine_client import RunEngineClient
from runengine_client.types import Artifact
from runengine_client.workflow import expression

from ..e2e.workflows import single
from ..support.engine_process import EngineProcess, EngineSettings
from ..support.skill_server_process import SkillServerProcess

pytestmark = pytest.mark.anyio

SCRIPT = "document.documentElement.setAttribute('data-ran', 'yes')"
HTML = (
    f'<!doctype html><title>made</title><h1 onclick>shown</h1><script>{SCRIPT}</script><img src=x onerror="{SCRIPT}">'
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30" '
    f'onload="{SCRIPT}"><text y="20">shown</text><script>{SCRIPT}</script></svg>'
)


@pytest.fixture(scope="module")
def engine(engine_settings: EngineSettings, skills: SkillServerProcess) -> Iterator[EngineProcess]:
    """The module's server: its store is the folder of the skills."""
    with EngineProcess(engine_settings, RUNENGINE_ARTIFACT_STORE=skills.artifact_dir.as_uri()) as process:
        yield process


async def opened(
    client: RunEngineClient, engine: EngineProcess, text: str | bytes, media_type: str, filename: str
) -> str:
    """The URL of an artifact with that text, with a watch token of its run."""
    leaves = {name: expression(f"trigger.{name}") for name in ("text", "filename", "mediaType", "isBase64", "salt")}
    await client.register_workflow(single("made", skill="t.publish", input=leaves))
    given = {
        "text": b64encode(text).decode() if isinstance(text, bytes) else text,
        "filename": filename,
        "mediaType": media_type,
        "isBase64": isinstance(text, bytes),
        "salt": uuid.uuid4().hex,
    }
    run = await client.start("made", given)
    assert (await run.wait()).status == "completed"
    artifact: Artifact
    [artifact] = await run.artifacts()
    token = (await client.create_watch_token(run.id)).token
    return f"{engine.http_url}/api/v1/artifacts/{artifact.id}/content?access_token={token}"


@pytest.mark.parametrize(
    ("text", "media_type", "filename"), [(HTML, "text/html", "page.html"), (SVG, "image/svg+xml", "drawing.svg")]
)
async def test_nothing_runs(
    client: RunEngineClient,
    engine: EngineProcess,
    page: Page,
    console_errors: list[str],
    text: str,
    media_type: str,
    filename: str,
) -> None:
    """Opened as a page of their own, what they show is there, and no script of theirs ran."""
    await page.goto(await opened(client, engine, text, media_type, filename))
    assert await page.get_by_text("shown").count() == 1
    assert await page.locator("[data-ran]").count() == 0
    assert any("script" in error.lower() for error in console_errors), "the browser says what it refused"


async def test_a_sound_plays(client: RunEngineClient, engine: EngineProcess, page: Page) -> None:
    """A sound opened by its URL is in the browser's player, with its length of a second."""
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 8036, b"WAVEfmt ", 16, 1, 1, 8000, 8000, 1, 8, b"data", 8000)
    await page.goto(await opened(client, engine, head + bytes(8000), "audio/wav", "silence.wav"))
    await page.wait_for_function("() => document.querySelector('video, audio').readyState > 0")
    assert await page.evaluate("() => document.querySelector('video, audio').duration") == 1


async def test_a_drawing_is_a_picture_of_a_page(client: RunEngineClient, engine: EngineProcess, page: Page) -> None:
    """An `<img>` with a watch token in its URL shows the artifact, without any header."""
    url = await opened(client, engine, SVG, "image/svg+xml", "drawing.svg")
    await page.set_content(f'<img src="{url}">')
    await page.wait_for_function("() => document.images[0].complete")
    assert await page.evaluate("() => document.images[0].naturalWidth") == 40


async def test_what_cannot_be_shown_is_a_download(client: RunEngineClient, engine: EngineProcess, page: Page) -> None:
    """Bytes of a kind that a browser does not show are saved under their name."""
    url = await opened(client, engine, "bytes", "application/zip", "größe 1.zip")
    await page.set_content(f'<a href="{url}">get</a>')
    async with page.expect_download() as saving:
        await page.get_by_text("get").click()
    saved = await saving.value
    assert saved.suggested_filename == "größe 1.zip"
