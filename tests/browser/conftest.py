"""A real browser against a real engine: one Chromium a session, one page a test, servers as in the end-to-end tests."""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from ..e2e.conftest import (  # noqa: F401 - fixtures
    client,
    engine,
    engine_settings,
    folder,
    fresh_database_url,
    pytest_runtest_makereport,
    skills,
)
from ..support.browser import open_chromium, open_page
from ..support.databases import make_template


@pytest.fixture(scope="session")
def template(stack: Any) -> str:
    """A migrated database to clone."""
    return make_template(stack.database_url, f"browser_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The session's browser; without one the test is skipped: `no chromium`."""
    async with open_chromium() as browser:
        yield browser


@pytest.fixture
def console_errors() -> list[str]:
    """What the test's page wrote to the console as an error, and exceptions that nobody caught."""
    return []


@pytest.fixture
async def page(chromium: Browser, console_errors: list[str]) -> AsyncIterator[Page]:
    """An empty page in a profile of its own."""
    async with open_page(chromium, console_errors) as opened:
        yield opened
