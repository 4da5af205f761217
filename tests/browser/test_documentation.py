"""Every command and snippet of docs/browsers.md works as it is printed."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from playwright.async_api import Page

from runengine_client import RunEngineClient

from ..e2e.workflows import demo
from ..support.browser import REPOSITORY, build_page, node_environment
from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from .watch_page import FOLDER, served

DOCUMENT = (REPOSITORY / "docs" / "browsers.md").read_text()

pytestmark = pytest.mark.anyio


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An origin of pages that may call the engine."""
    folder: Path = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<!doctype html><link rel=icon href=data:,>")
    with served(folder) as url:
        yield url


@pytest.fixture(scope="module")
def engine_settings(engine_settings: EngineSettings, origin: str) -> EngineSettings:
    return replace(engine_settings, environment={"RUNENGINE_CORS_ORIGINS": origin})


@pytest.fixture
async def run_id(client: RunEngineClient) -> str:
    """A run of the workflow that the document has."""
    await client.register_workflow(demo())
    return await client.trigger("demo", {"brief": {}})


async def test_commands(engine: EngineProcess, run_id: str) -> None:
    """Each command answers with what the document says."""
    setting, listing, minting = blocks("sh")
    assert "RUNENGINE_CORS_ORIGINS" in setting
    environment = {**os.environ, "RUNENGINE_URL": engine.http_url, "TOKEN": TOKENS.admin, "RUN_ID": run_id}
    answers = [
        json.loads((await anyio.run_process(["bash", "-ec", each], env=environment)).stdout)
        for each in (listing, minting)
    ]
    assert answers[0]["runs"][0]["status"].startswith("RUN_STATUS_")
    assert answers[1].keys() == {"token", "expiresAt"}


async def test_typescript(engine: EngineProcess, run_id: str) -> None:
    """The snippet starts a run and hears of everything up to its end."""
    build_page(FOLDER)
    (snippet,) = blocks("ts")
    known = "const url = process.env.RUNENGINE_URL!; const token = process.env.TOKEN!;\n"
    build = [FOLDER / "node_modules/.bin/esbuild", "--bundle", "--platform=node", "--format=esm", "--loader=ts"]
    bundle = await anyio.run_process(build, cwd=FOLDER / "src", input=f"{known}{snippet}".encode())
    environment = {**node_environment(), "RUNENGINE_URL": engine.http_url, "TOKEN": TOKENS.writer}
    with anyio.fail_after(60):
        done = await anyio.run_process(
            ["node", "--input-type=module"], env=environment, input=bundle.stdout, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines()[-1].endswith(" end")


async def test_event_source(
    client: RunEngineClient, engine: EngineProcess, origin: str, page: Page, console_errors: list[str], run_id: str
) -> None:
    """The snippet follows a run to its end in Chromium, with a watch token and nothing else."""
    (snippet,) = blocks("js")
    token = (await client.create_watch_token(run_id)).token
    await page.goto(origin)
    shown = await page.evaluate(
        f"""([url, runId, watchToken]) => new Promise((resolve) => {{
            const told = [];
            const show = (each) => {{ told.push(each); if (each.run?.completedAt) resolve(told); }};
            {snippet}
        }})""",
        [engine.http_url, run_id, token],
    )
    assert shown[0]["run"]["id"] == run_id
    assert shown[-1]["run"]["status"] == "completed"
    assert console_errors == []
