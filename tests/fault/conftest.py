"""A fresh database, a slow skill server and a fleet without engines for each fault test."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..support.databases import cloned_database, make_template
from ..support.engine_process import EngineSettings
from .fleet import LEASE_S, Fleet, SlowSkills


@pytest.fixture(scope="session")
def template(stack) -> str:
    """A migrated database to clone."""
    return make_template(stack.database_url, f"fault_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")


@pytest.fixture
def fresh_database_url(stack, template: str) -> Iterator[str]:
    """A database of the test's own."""
    with cloned_database(stack.database_url, template) as url:
        yield url


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowSkills]:
    """The module's skill server."""
    with SlowSkills(tmp_path_factory.mktemp("skills")) as process:
        yield process


@pytest.fixture
def fleet(stack, fresh_database_url: str, skills: SlowSkills, tmp_path: Path) -> Iterator[Fleet]:
    """No engines yet; those that the test starts are ended."""
    settings = EngineSettings(
        database_url=fresh_database_url,
        redis_url=stack.redis_url,
        skills=f"f.*=grpc://{skills.address}",
        folder=tmp_path,
        environment={"RUNENGINE_LEASE_S": str(LEASE_S)},
    )
    fleet = Fleet(settings=settings, skills=skills)
    try:
        yield fleet
    finally:
        fleet.close()


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Keeps a measurement with the test's report (pytest's own fixture warns about the default junit format)."""

    def record(name: str, value: object) -> None:
        request.node.user_properties.append((name, value))

    return record


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder that another account may enter and whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="fault-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
