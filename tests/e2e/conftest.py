"""A fresh database, a scripted skill server and one engine for each test module."""

import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from runengine_client import RunEngineClient

from ..support.databases import cloned_database, make_template
from ..support.engine_process import EngineProcess, EngineSettings
from ..support.processes import logs_of_open_processes
from ..support.refusals import RawApi, raw_api
from ..support.skill_server_process import SkillServerProcess


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show what the servers logged where a test failed."""
    report = yield
    if report.failed:
        report.sections += list(logs_of_open_processes().items())
    return report


@pytest.fixture(scope="session")
def template(stack: Any) -> str:
    """A migrated database to clone."""
    return make_template(stack.database_url, f"e2e_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")


@pytest.fixture(scope="module")
def fresh_database_url(stack: Any, template: str) -> Iterator[str]:
    """A database of the module's own."""
    with cloned_database(stack.database_url, template) as url:
        yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For logs, tokens, artifacts and gates of the module."""
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def skills(folder: Path) -> Iterator[SkillServerProcess]:
    """The module's skill server."""
    with SkillServerProcess(folder / "skills") as process:
        yield process


@pytest.fixture(scope="module")
def engine_settings(stack: Any, fresh_database_url: str, skills: SkillServerProcess, folder: Path) -> EngineSettings:
    """What the module's engines share."""
    return EngineSettings(
        database_url=fresh_database_url,
        redis_url=stack.redis_url,
        skills=skills.targets,
        folder=folder,
        environment={},
    )


@pytest.fixture(scope="module")
def engine(engine_settings: EngineSettings) -> Iterator[EngineProcess]:
    """The module's server."""
    with EngineProcess(engine_settings) as process:
        yield process


@pytest.fixture
async def client(engine: EngineProcess) -> AsyncIterator[RunEngineClient]:
    """A client that may do everything."""
    async with engine.client() as connected:
        yield connected


@pytest.fixture
def raw(engine: EngineProcess) -> Iterator[RawApi]:
    """Blocking stubs without the client library."""
    with raw_api(engine.target) as api:
        yield api
