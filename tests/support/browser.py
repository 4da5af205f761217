"""A real browser for tests: the machine's Chromium, driven by Playwright; and pages that Node has to build first."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

REPOSITORY = Path(__file__).resolve().parents[2]

WAIT_S_MAX = 20.0
"""How long Playwright waits for what a test expects of a page."""

_BUILD_S_MAX = 300.0
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

# Pages must need nothing but their own server: no other name resolves.
_NOTHING_OUTSIDE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"


def chromium_path() -> str:
    """Where Chromium is; without one the test is skipped: `no chromium`."""
    for program in _PROGRAMS:
        if path := shutil.which(program):
            return path
    pytest.skip("no chromium")


@asynccontextmanager
async def open_chromium() -> AsyncIterator[Browser]:
    """A headless Chromium without access to anything but this machine."""
    path = chromium_path()
    async with async_playwright() as playwright:
        # CI runs as root, whom Chromium's sandbox refuses.
        browser = await playwright.chromium.launch(
            executable_path=path, headless=True, args=["--no-sandbox", "--disable-dev-shm-usage", _NOTHING_OUTSIDE]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(browser: Browser, errors: list[str], **options: Any) -> AsyncIterator[Page]:
    """An empty page in a profile of its own.

    Args:
        browser: where.
        errors: gets what the page writes to the console as an error, and every exception nobody caught.
        options: of Playwright's `new_context`, such as `color_scheme`.
    """
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, **options)
    context.set_default_timeout(WAIT_S_MAX * 1000)
    try:
        page = await context.new_page()
        page.on("console", lambda message: _note(message, errors))
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    finally:
        await context.close()


def node_environment() -> dict[str, str]:
    """Variables with which `node`, `npm` and `buf` are found, those of `.ci/browser.sh` too."""
    folders = [REPOSITORY / ".tools" / "node" / "bin", Path(sys.executable).parent]
    return {**os.environ, "PATH": os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])}


def build_page(folder: Path) -> None:
    """`npm run build` has been run in the folder; skipped without Node (`no node`) or what `npm ci` installs."""
    environment = node_environment()
    npm = shutil.which("npm", path=environment["PATH"])
    if npm is None:
        pytest.skip("no node")
    if not (folder / "node_modules").is_dir():
        pytest.skip(f"no node packages; run: make test-browser, or npm ci in {folder.relative_to(REPOSITORY)}")
    done = subprocess.run(
        [npm, "run", "build"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=_BUILD_S_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def _note(message: ConsoleMessage, errors: list[str]) -> None:
    if message.type == "error":
        errors.append(f"{message.text} ({message.location.get('url', '')})")
