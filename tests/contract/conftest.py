"""The queue, store and registry under test, each implementation in turn."""

from collections.abc import AsyncIterator

import pytest

from .queue_subject import Subject, memory_subject, postgres_subject


@pytest.fixture(params=["memory", "postgres"])
def runs_url(request: pytest.FixtureRequest) -> str | None:
    """Of an empty database, for the implementation that needs one."""
    return request.getfixturevalue("database_url") if request.param == "postgres" else None


@pytest.fixture
async def subject(runs_url: str | None) -> AsyncIterator[Subject]:
    """Each implementation, without runs, with one engine."""
    async with memory_subject() if runs_url is None else postgres_subject(runs_url) as subject:
        yield subject
