"""Engines behind PgBouncer in transaction mode, as `deploy/pgbouncer` sets it up."""

import configparser
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg
import httpx
import pytest

from runengine_client.states import RunStatus
from runengine_server.adapters.embedded.account import choose_account
from runengine_server.adapters.embedded.port import free_port
from runengine_server.adapters.postgres.database import PINNED_PLANS, SERVER_SETTINGS

from ..support.deploy_tools import DEPLOY, tool
from ..support.engine_process import EngineProcess, EngineSettings
from ..support.processes import ManagedProcess, wait_until
from .workflows import DEMO, demo

pytestmark = pytest.mark.anyio

SAMPLE = DEPLOY / "pgbouncer" / "pgbouncer.ini"
ROLE = (DEPLOY / "pgbouncer" / "role.sql").read_text()
TRACKED = {"application_name", "timezone"}
"""PgBouncer passes these on by itself."""


def test_nothing_is_lost() -> None:
    """What engines ask of a connection, and PgBouncer leaves out, their role is given with the same value."""
    wanted = {name: value for name, value in {**SERVER_SETTINGS, **PINNED_PLANS}.items() if name not in TRACKED}
    assert dict(re.findall(r"^ALTER ROLE runengine_app SET (\w+) = '([^']+)';$", ROLE, re.MULTILINE)) == wanted
    ignored = set(sample()["pgbouncer"]["ignore_startup_parameters"].split(","))
    assert ignored == wanted.keys()


def sample() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(SAMPLE.read_text())
    return parser


@pytest.fixture
def pooled_url(fresh_database_url: str, tmp_path: Path) -> Iterator[str]:
    """The module's database through PgBouncer, with the sample's settings but for places and passwords."""
    program = tool("pgbouncer")
    parts = urlsplit(fresh_database_url)
    query = parse_qs(parts.query)
    name, port = parts.path.lstrip("/"), free_port()
    config = sample()
    config["databases"] = {name: f"host={query['host'][0]} port={query['port'][0]} dbname={name} user={parts.username}"}
    config["pgbouncer"].update({"listen_addr": "127.0.0.1", "listen_port": str(port), "auth_type": "any"})
    config["pgbouncer"].update({"unix_socket_dir": "", "auth_file": "/dev/null"})
    path = tmp_path / "pgbouncer.ini"
    with path.open("w") as file:
        config.write(file)
    path.chmod(0o644)
    # It refuses to be root, as PostgreSQL does.
    for folder in (tmp_path, *tmp_path.parents[:2]):
        if os.geteuid() == 0:
            folder.chmod(0o755)
    user = ["-u", choose_account(None).name] if os.geteuid() == 0 else []
    with ManagedProcess([program, *user, path], log_path=tmp_path / "pgbouncer.log") as process:
        wait_until(lambda: "process up" in process.log, "PgBouncer is up")
        yield f"postgresql://{parts.username}@127.0.0.1:{port}/{name}"


async def test_engine_behind_pgbouncer(
    pooled_url: str, fresh_database_url: str, engine_settings: EngineSettings, stack: Any
) -> None:
    """A run and a rebuild complete, the engine is ready, and its statements have the plans and bounds of their role."""
    user = urlsplit(fresh_database_url).username
    await execute(fresh_database_url, ROLE.replace("runengine_app", f'"{user}"'))
    settings = EngineSettings(
        database_url=pooled_url,
        redis_url=None,
        skills=engine_settings.skills,
        folder=engine_settings.folder,
        environment={"RUNENGINE_LISTEN_DATABASE_URL": fresh_database_url, "RUNENGINE_STATEMENT_CACHE_SIZE": "0"},
    )
    try:
        with EngineProcess(settings, "pooled") as engine:
            async with engine.client() as client:
                await client.register_workflow(demo())
                run = await client.start(DEMO, {"brief": "pooled"})
                assert (await run.wait()).status is RunStatus.COMPLETED
                update = await client.start_update(run.id, "music.update", {"style": "loud"})
                assert (await update.wait()).status is RunStatus.COMPLETED
                with anyio.fail_after(10):
                    assert [item async for item in client.watch(update.id)]
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"{engine.ops_url}/health/ready")).status_code == 200
            log = engine.log
        connection = await asyncpg.connect(pooled_url, statement_cache_size=0)
        assert await connection.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
        assert await connection.fetchval("SHOW statement_timeout") == "15s"
        await connection.close()
    finally:
        await execute(fresh_database_url, f'ALTER ROLE "{user}" RESET ALL')
    assert "rror" not in log, log


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
