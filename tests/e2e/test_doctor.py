"""`runengine-server doctor` against real servers, whole and broken: what failed, what to do, and the exit status."""

import json
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from redis import Redis

from ..support.databases import with_database
from ..support.engine_process import TOKENS, EngineProcess
from ..support.processes import REPOSITORY, clean_environment
from ..support.skill_server_process import SkillServerProcess

Findings = dict[str, list[dict[str, Any]]]
Doctor = Callable[..., tuple[int, Findings]]


@pytest.fixture
def doctor(fresh_database_url: str, stack: Any, skills: SkillServerProcess, tmp_path: Path) -> Doctor:
    """Runs the command on settings that are all right but for those given; returns its status and its findings."""
    tokens = TOKENS.write(tmp_path / "tokens.json")
    tokens.chmod(0o600)
    good = {
        "DATABASE_URL": fresh_database_url,
        "REDIS_URL": stack.redis_url,
        "RUNENGINE_SKILLS": skills.targets,
        "RUNENGINE_TOKENS_FILE": str(tokens),
        **{f"RUNENGINE_{name}_ADDRESS": "127.0.0.1:0" for name in ("GRPC", "HTTP", "OPS")},
    }

    def run(**variables: str) -> tuple[int, Findings]:
        done = subprocess.run(
            [sys.executable, "-m", "runengine_server", "doctor", "--output", "json"],
            env={**clean_environment(), **good, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        told = json.loads(done.stdout)
        assert told["healthy"] is (done.returncode == 0)
        found: Findings = {}
        for finding in told["findings"]:
            found.setdefault(finding["check"], []).append(finding)
        return done.returncode, found

    return run


def failures(found: Findings) -> dict[str, str]:
    """What failed, with what was found."""
    return {check: each["found"] for check, findings in found.items() for each in findings if each["level"] == "failed"}


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that is taken, but on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port on which somebody listens who never says a word."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_all_is_well(doctor: Doctor, skills: SkillServerProcess) -> None:
    """With everything there, nothing fails or is worth a warning, and the skills are named with version and limits."""
    status, found = doctor()
    assert status == 0
    assert [each for findings in found.values() for each in findings if each["level"] != "ok"] == []
    (offered,) = found[f"Skills: grpc://{skills.address}"]
    assert "t.echo 1.0.0" in offered["found"]
    assert {"PostgreSQL: version", "PostgreSQL: schema", "PostgreSQL: privileges", "Redis: latency"} <= found.keys()


def test_table(fresh_database_url: str, stack: Any) -> None:
    """The table says what to do, and the last line how it is; without a configuration the status is 2."""
    command = [sys.executable, "-m", "runengine_server", "doctor"]
    given = {**clean_environment(), "DATABASE_URL": fresh_database_url, "REDIS_URL": stack.redis_url}
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "→ name a file of tokens" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("an engine cannot work like this: 1 failed")


def test_commands_of_the_document(
    fresh_database_url: str, stack: Any, skills: SkillServerProcess, tmp_path: Path
) -> None:
    """Both commands that docs/configuration.md gives end with 0 where all is well."""
    text = (REPOSITORY / "docs" / "configuration.md").read_text().partition("## Checking it")[2]
    (script,) = re.findall(r"^```sh\n(.*?)^```$", text.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    assert script.split("\n")[:2] == ["runengine-server config check", "runengine-server doctor"]
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        env={
            **clean_environment(),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE_URL": fresh_database_url,
            "REDIS_URL": stack.redis_url,
            "RUNENGINE_SKILLS": skills.targets,
            "RUNENGINE_TOKENS_FILE": str(TOKENS.write(tmp_path / "tokens.json")),
            **{f"RUNENGINE_{name}_ADDRESS": "127.0.0.1:0" for name in ("GRPC", "HTTP", "OPS")},
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the configuration can be used" in done.stdout and "nothing is in the way" in done.stdout


def test_database_that_is_not_there(doctor: Doctor, dead_port: int) -> None:
    """Without a database the rest is still examined."""
    status, found = doctor(DATABASE_URL=f"postgresql://ann:hunter2@127.0.0.1:{dead_port}/y")
    assert status == 1
    assert failures(found).keys() == {"PostgreSQL"}
    assert "cannot be reached" in failures(found)["PostgreSQL"]
    assert "hunter2" not in json.dumps(found)
    assert found["Redis: latency"]


def test_listen_url_that_is_not_there(doctor: Doctor, dead_port: int) -> None:
    """The second database URL is examined as well."""
    status, found = doctor(RUNENGINE_LISTEN_DATABASE_URL=f"postgresql://127.0.0.1:{dead_port}/y")
    assert status == 1
    assert "RUNENGINE_LISTEN_DATABASE_URL" in failures(found)["PostgreSQL"]


def test_database_without_schema(doctor: Doctor, stack: Any) -> None:
    """An empty database is told how to get its schema."""
    name = f"doctor_{uuid.uuid4().hex[:8]}"
    _execute(stack.database_url, f'CREATE DATABASE "{name}"')
    try:
        status, found = doctor(DATABASE_URL=with_database(stack.database_url, name))
    finally:
        _execute(stack.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')
    assert status == 1
    assert found["PostgreSQL: schema"][0]["advice"] == "runengine-server migrate"


def test_changed_migration(doctor: Doctor, fresh_database_url: str) -> None:
    """A migration applied with other content is found, and a newer one is a warning."""
    _execute(fresh_database_url, "UPDATE schema_migrations SET checksum = 'x' || checksum WHERE version = 3")
    try:
        status, found = doctor()
    finally:
        _execute(fresh_database_url, "UPDATE schema_migrations SET checksum = substr(checksum, 2) WHERE version = 3")
    assert status == 1
    assert "0003" in failures(found)["PostgreSQL: schema"]
    _execute(fresh_database_url, "INSERT INTO schema_migrations (version, name, checksum) VALUES (9999, 'x', 'x')")
    try:
        status, found = doctor()
    finally:
        _execute(fresh_database_url, "DELETE FROM schema_migrations WHERE version = 9999")
    assert status == 0
    assert found["PostgreSQL: schema"][0]["level"] == "warning"


def test_role_without_privileges(doctor: Doctor, fresh_database_url: str) -> None:
    """A role that may only read is told which tables it may not write."""
    role = f"reader_{uuid.uuid4().hex[:8]}"
    _execute(fresh_database_url, f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    _execute(fresh_database_url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    host = fresh_database_url.partition("://")[2].rpartition("@")[2]
    try:
        status, found = doctor(DATABASE_URL=f"postgresql://{role}:pw@{host}")
    finally:
        _execute(fresh_database_url, f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert status == 1
    assert "DELETE, INSERT" in failures(found)["PostgreSQL: privileges"]


def test_commits_that_can_be_lost(doctor: Doctor, fresh_database_url: str) -> None:
    """synchronous_commit = off is a warning with what it means."""
    name = fresh_database_url.partition("?")[0].rpartition("/")[2]
    _execute(fresh_database_url, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    try:
        status, found = doctor()
    finally:
        _execute(fresh_database_url, f'ALTER DATABASE "{name}" RESET synchronous_commit')
    assert status == 0
    assert found["PostgreSQL: durability"][0]["level"] == "warning"


def test_cache_that_is_not_there(doctor: Doctor, dead_port: int, skills: SkillServerProcess) -> None:
    """A dead cache fails, and so does something else that listens there; the password is not shown."""
    for address in (f":hunter2@127.0.0.1:{dead_port}", f":hunter2@{skills.address}"):
        status, found = doctor(REDIS_URL=f"redis://{address}/0")
        assert status == 1
        assert failures(found).keys() == {"Redis"}
        assert "hunter2" not in json.dumps(found)


def test_cache_that_does_not_evict(doctor: Doctor, stack: Any) -> None:
    """A cache server that refuses writes when it is full is a warning."""
    with Redis.from_url(stack.redis_url) as server:
        server.config_set("maxmemory-policy", "noeviction")
        try:
            status, found = doctor()
        finally:
            server.config_set("maxmemory-policy", "allkeys-lru")
    assert status == 0
    assert "allkeys-lru" in found["Redis: eviction"][0]["advice"]


def test_skill_targets(doctor: Doctor, skills: SkillServerProcess, dead_port: int, silent_port: int) -> None:
    """Every target is asked: one is not there, one says nothing, one has no name, one is mapped for other skills."""
    targets = {
        "t.*": f"grpc://{skills.address}",
        "u.*": f"grpc://{skills.address}",
        "dead.*": f"grpc://127.0.0.1:{dead_port}",
        "silent.*": f"grpc://127.0.0.1:{silent_port}",
        "nameless.*": "grpc://no-such-host.invalid:1",
        "socket.*": "unix:/nowhere.sock",
    }
    status, found = doctor(RUNENGINE_SKILLS=",".join(f"{pattern}={target}" for pattern, target in targets.items()))
    assert status == 1
    failed = failures(found)
    assert "refused" in failed[f"Skills: {targets['dead.*']}"]
    assert "ListSkills" in failed[f"Skills: {targets['silent.*']}"]
    assert "cannot be resolved" in failed["Skills: grpc://no-such-host.invalid:1"]
    assert "No such file" in failed["Skills: unix:/nowhere.sock"]
    offered, stray = found[f"Skills: {targets['t.*']}"]
    assert offered["level"] == "ok"
    assert (stray["level"], stray["found"].split()[0]) == ("warning", "u.*")


def test_http_target(doctor: Doctor) -> None:
    """A skill service over HTTP that lists nothing is fine: it is asked for whatever is mapped to it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as service, ThreadPoolExecutor(1) as threads:
        threads.submit(service.serve_forever, 0.05)
        target = f"http://127.0.0.1:{service.server_port}/skills"
        try:
            status, found = doctor(RUNENGINE_SKILLS=f"h.*={target}")
        finally:
            service.shutdown()
    assert status == 0, failures(found)
    assert "lists no skills" in found[f"Skills: {target}"][0]["found"]


def test_artifact_store(doctor: Doctor, tmp_path: Path, dead_port: int) -> None:
    """A folder that is there is fine, one that is not a warning, a bucket that does not answer fails."""
    assert doctor(RUNENGINE_ARTIFACT_STORE=f"file://{tmp_path}")[1]["Artifact store"][0]["level"] == "ok"
    status, found = doctor(RUNENGINE_ARTIFACT_STORE=f"file://{tmp_path}/gone")
    assert status == 0
    assert found["RUNENGINE_ARTIFACT_STORE"][0]["level"] == "warning"
    status, found = doctor(
        RUNENGINE_ARTIFACT_STORE="s3://bucket/prefix",
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{dead_port}",
        AWS_ALLOW_HTTP="true",
        AWS_REGION="us-east-1",
        AWS_ACCESS_KEY_ID="id",
        AWS_SECRET_ACCESS_KEY="hunter2",
    )
    assert status == 1
    assert failures(found).keys() == {"Artifact store"}
    assert "hunter2" not in json.dumps(found)


def test_workflows_without_skills(doctor: Doctor, tmp_path: Path) -> None:
    """A workflow of the directory that asks for a skill nobody offers is a warning that names both."""
    folder = tmp_path / "workflows"
    folder.mkdir()
    steps = "steps:\n  - {stepId: a, skillId: t.echo}\n  - {stepId: b, skillId: nobody.has}\n"
    (folder / "a.yaml").write_text(f"workflowName: doctor.demo\nversion: 1.0.0\n{steps}")
    status, found = doctor(RUNENGINE_WORKFLOW_DIR=str(folder))
    assert status == 0
    counted, lacking = found["Workflows"]
    assert counted["level"] == "ok"
    assert "doctor.demo 1.0.0" in lacking["found"] and "nobody.has" in lacking["found"]


def test_tokens_that_end(doctor: Doctor, tmp_path: Path) -> None:
    """Expired tokens, and a file that everybody may read, are warnings; no token is shown."""
    tokens = tmp_path / "open.yaml"
    entry = "token: hunter2, principal: ann, tenant: acme, scopes: [run:read], expires_at: 2020-01-01T00:00:00Z"
    tokens.write_text(f"- {{{entry}}}")
    tokens.chmod(0o644)
    status, found = doctor(RUNENGINE_TOKENS_FILE=str(tokens))
    assert status == 0
    said = [each["found"] for each in found["Tokens"] if each["level"] == "warning"]
    assert "the token of ann in acme expired" in said[0]
    assert "other accounts" in said[1]
    assert "hunter2" not in json.dumps(found)


def test_artifact_roots(doctor: Doctor, tmp_path: Path, dead_port: int) -> None:
    """Roots that are there are fine; a folder that is not, and a host that does not answer, are warnings."""
    roots = f"file://{tmp_path},file:///nowhere,http://127.0.0.1:{dead_port}/a"
    status, found = doctor(RUNENGINE_ARTIFACT_ROOTS=roots)
    assert status == 0
    assert [each["level"] for each in found["Artifact roots"]] == ["ok", "warning"]
    assert found["RUNENGINE_ARTIFACT_ROOTS"][0]["found"].startswith("/nowhere")


def test_addresses(doctor: Doctor, engine: EngineProcess, silent_port: int) -> None:
    """An engine's own ports are recognised, somebody else's fail, free ones are free, and a socket needs its folder."""
    own = {
        "RUNENGINE_GRPC_ADDRESS": engine.target,
        "RUNENGINE_HTTP_ADDRESS": engine.http_url.removeprefix("http://"),
        "RUNENGINE_OPS_ADDRESS": engine.ops_url.removeprefix("http://"),
    }
    status, found = doctor(**own)
    assert status == 0, failures(found)
    for variable, address in own.items():
        (finding,) = found[f"Address: {variable}={address}"]
        assert finding["found"] == "an engine serves it"
        status, other = doctor(**{variable: f"127.0.0.1:{silent_port}"})
        assert status == 1
        assert "not by an engine" in failures(other)[f"Address: {variable}=127.0.0.1:{silent_port}"]
    status, found = doctor(RUNENGINE_GRPC_ADDRESS="unix:/nowhere/engine.sock")
    assert status == 1
    assert "no folder /nowhere" in failures(found)["Address: RUNENGINE_GRPC_ADDRESS=unix:/nowhere/engine.sock"]


def test_address_of_another_machine(doctor: Doctor) -> None:
    """An address that this machine does not have cannot be listened on."""
    status, found = doctor(RUNENGINE_OPS_ADDRESS="192.0.2.1:3002")
    assert status == 1
    assert "cannot be listened on" in failures(found)["Address: RUNENGINE_OPS_ADDRESS=192.0.2.1:3002"]


def _execute(url: str, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    anyio.run(execute)
