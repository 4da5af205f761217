"""Snippets of reference pages do what their page says: programs, JSON, tables of paths and codes, files, commands."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from runengine_client import RunEngineClient
from runengine_client.pb.runengine.v1 import error_reason_pb2
from runengine_client.skills import serve_skills
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_server.adapters.embedded.port import free_port

from ..support.documents import blocks
from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import REPOSITORY, ManagedProcess, clean_environment
from ..support.skill_server_process import SkillServerProcess
from .workflows import single

CAMPAIGN = "campaign.build.v1"
COMMENTS = json.loads((REPOSITORY / "runengine_client" / "pb" / "comments.json").read_text())


@pytest.fixture(scope="module")
def port() -> int:
    """Where the skill of docs/skills.md is served instead of port 7002."""
    return free_port()


@pytest.fixture(scope="module")
def engine(
    stack: Any, fresh_database_url: str, skills: SkillServerProcess, folder: Path, port: int
) -> Iterator[EngineProcess]:
    """An engine that also knows the skills that the documents speak of; nobody offers those of its pictures."""
    further = f"text.*=grpc://127.0.0.1:{port},planning.*=grpc://127.0.0.1:1,audio.*=grpc://127.0.0.1:1"
    settings = EngineSettings(
        database_url=fresh_database_url,
        redis_url=stack.redis_url,
        skills=f"{skills.targets},{further}",
        folder=folder,
        environment={"RUNENGINE_ARTIFACT_STORE": skills.artifact_dir.as_uri()},
    )
    with EngineProcess(settings) as process:
        yield process


@pytest.fixture
async def campaign(client: RunEngineClient) -> str:
    """A workflow of the campaign's name, over skills that are there; the id of a run of it that has completed."""
    await client.register_workflow(
        WorkflowBuilder(CAMPAIGN, version="1.0.0")
        .step("generate_bgm_track", skill="t.echo", input={"trigger": expression("trigger")}, cache="global")
        .change("audio.update", seeds=["generate_bgm_track"])
        .build()
    )
    run = await client.start(CAMPAIGN, {"brief": {"style": "calm"}})
    await run.result()
    return run.id


async def execute(block: str, names: dict[str, Any]) -> None:
    """The block has run as if it stood in a coroutine; what it defines is among the names."""
    made = eval(compile(block, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.iscoroutine(made):
        await made


@pytest.mark.anyio
async def test_client(
    client: RunEngineClient, engine: EngineProcess, campaign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Each Python block of docs/client.md runs."""
    first, plan, cache, watch, secure, workflows = blocks("docs/client.md", "python")
    names: dict[str, Any] = {"client": client, "base": campaign, "payload": {"audioStyle": "retro"}}
    with anyio.fail_after(60):
        await execute(first.replace('"127.0.0.1:50051"', f"{engine.target!r}, token={TOKENS.admin!r}"), names)
        assert names["run"].status == "completed"
        names["client"] = client
        await execute(plan, names)
        await names["handle"].result()
        await execute(cache, names)
        assert "generate_bgm_track" in capsys.readouterr().out
        await execute(watch, names)
        assert "completed" in capsys.readouterr().out
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "campaign.yaml").write_bytes(
        (REPOSITORY / "examples" / "campaign" / "campaign.build.v1.yaml").read_bytes()
    )
    monkeypatch.chdir(tmp_path)
    await execute(workflows, names)
    assert names["workflow"].change_requests[0].seed_step_ids == ["music"]
    await execute(secure, names | {"read_token": lambda: "secret"})


@pytest.mark.anyio
async def test_skills(client: RunEngineClient, engine: EngineProcess, port: int, tmp_path: Path) -> None:
    """The program of docs/skills.md serves its skill, which fails with its own code, too."""
    (program,) = blocks("docs/skills.md", "python")
    file = tmp_path / "skill.py"
    file.write_text(program.replace("127.0.0.1:7002", f"127.0.0.1:{port}").replace('"artifacts"', repr(str(tmp_path))))
    await client.register_workflow(single("words", skill="text.count", input={"text": expression("trigger.text")}))
    with ManagedProcess([sys.executable, file], log_path=tmp_path / "skill.log"), anyio.fail_after(60):
        run = await client.start("words", {"text": "three short words"})
        await run.result()
        (step,) = await run.steps(full=True)
        assert step.output == {"words": 3}
        failed = await (await client.start("words", {"text": ""})).wait()
    assert failed.error is not None
    assert failed.error.code == "NOTHING_TO_COUNT"


def test_artifacts(engine: EngineProcess, fresh_database_url: str, skills: SkillServerProcess) -> None:
    """The calls of docs/artifacts.md fit what they call, and its commands clear the store of this engine."""
    (calls,) = blocks("docs/artifacts.md", "python")
    signature = inspect.signature(serve_skills)
    made: list[inspect.BoundArguments] = []
    exec(calls, {"serve_skills": lambda *given, **named: made.append(signature.bind(*given, **named)), "skills": []})
    assert [set(call.arguments) & {"artifact_dir", "artifact_store"} for call in made] == [
        {"artifact_dir"},
        {"artifact_store"},
    ]
    (commands,) = [block for block in blocks("docs/artifacts.md", "bash") if "curl" not in block]
    store = {"DATABASE_URL": fresh_database_url, "RUNENGINE_ARTIFACT_STORE": skills.artifact_dir.as_uri()}
    bash(commands, RUNENGINE_ANONYMOUS="true", **store)


@pytest.mark.anyio
async def test_http(engine: EngineProcess, campaign: str) -> None:
    """docs/http.md lists the paths of the OpenAPI document, the codes of the contract, and an error as it comes."""
    text = (REPOSITORY / "docs" / "http.md").read_text()
    headers = {"authorization": f"Bearer {TOKENS.admin}"}
    async with httpx.AsyncClient(base_url=f"{engine.http_url}/api/v1", headers=headers) as http:
        change = {"changeRequest": {"type": "colour.update", "payload": {}}}
        refused = await http.post(f"/runs/{campaign}/update", json=change)
        described = (await http.get("/openapi.json")).json()["paths"]
    (printed,) = blocks("docs/http.md", "json")
    assert refused.json()["error"]["code"] == json.loads(printed)["error"]["code"]
    assert json.loads(printed)["error"].keys() == refused.json()["error"].keys()
    documented = re.findall(r"`(GET|POST) (/[^`?]*)[^`]*`", text.partition("| path, below")[2].partition("\n## ")[0])
    assert {(method, nameless(path)) for method, path in documented} == {
        (method.upper(), nameless(path.removeprefix("/api/v1")))
        for path, methods in described.items()
        for method in methods
    }


def nameless(path: str) -> str:
    """The path with its parameters' names left out, which are shorter in the document."""
    return re.sub(r"\{\w+\}", "{}", path)


def test_codes_of_http() -> None:
    """Each reason stands in docs/http.md beside the status that the contract gives it."""
    text = (REPOSITORY / "docs" / "http.md").read_text().partition("## Errors")[2]
    rows = dict(re.findall(r"^\| (\d{3}) \| (.*) \|$", text, re.MULTILINE))
    for name in error_reason_pb2.ErrorReason.keys()[1:]:
        (status,) = re.findall(r"\bHTTP (\d{3})", COMMENTS[f"runengine.v1.ErrorReason.{name}"])
        assert name.removeprefix("ERROR_REASON_") in rows[status], name


def test_tokens_file(tmp_path: Path) -> None:
    """The token file of docs/configuration.md is one."""
    (text,) = blocks("docs/configuration.md", "yaml")
    file = tmp_path / "tokens.yaml"
    file.write_text(text)
    file.chmod(0o600)
    told = bash(
        "runengine-server config check",
        DATABASE_URL="postgresql://127.0.0.1/x",
        RUNENGINE_TOKENS_FILE=str(file),
    )
    assert "the configuration can be used" in told


def test_targets_over_http() -> None:
    """The settings that docs/http-skills.md exports can be used."""
    (exports,) = blocks("docs/http-skills.md", "bash")
    script = f"{exports.replace('=…', '=secret')}\nrunengine-server config check"
    assert "the configuration can be used" in bash(
        script, DATABASE_URL="postgresql://127.0.0.1/x", RUNENGINE_ANONYMOUS="true"
    )


def test_tracing(fresh_database_url: str, folder: Path) -> None:
    """The commands of docs/tracing.md start a server that traces, whether or not the collector is there."""
    (session,) = blocks("docs/tracing.md", "console")
    script = re.sub(r"^\$ ", "", session, flags=re.MULTILINE).replace("runengine-server", "exec runengine-server")
    given = {f"RUNENGINE_{name}_ADDRESS": "127.0.0.1:0" for name in ("GRPC", "HTTP", "OPS")}
    environment = environment_of(DATABASE_URL=fresh_database_url, RUNENGINE_ANONYMOUS="true", **given)
    with ManagedProcess(["bash", "-euc", script], log_path=folder / "traced.log", environment=environment) as server:
        server.wait_for_line("RunEngine is listening on ")
        server.terminate()
        server.wait()
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in script


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/performance.md"])
def test_make_targets(document: str) -> None:
    """Every make command is a target; other commands of the block understand `--help`."""
    lines = "".join(blocks(document, "sh")).splitlines()
    assert lines
    for line in lines:
        command = line.partition("#")[0].strip()
        if command.startswith("make "):
            done = subprocess.run(
                ["bash", "-c", f"{command} --dry-run"], cwd=REPOSITORY, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        else:
            bash(f"{command.replace('TABLE', 'engine')} --help")


def bash(script: str, **environment: str) -> str:
    """What a script prints that finds our programs."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=REPOSITORY,
        env=environment_of(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment_of(**environment: str) -> dict[str, str]:
    """A clean environment whose PATH has our programs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**clean_environment(), "PATH": path, **environment}
