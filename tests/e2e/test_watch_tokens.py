"""Tokens for pages: they read one run by its URL, until they end, and nothing else."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from runengine_client import RunEngineClient
from runengine_client.errors import InvalidArgumentError, NotFoundError, UnauthenticatedError
from runengine_client.handle import RunHandle

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.skill_server_process import SkillServerProcess
from .workflows import demo, gated

pytestmark = pytest.mark.anyio


async def finished(client: RunEngineClient) -> RunHandle:
    """A run that has ended."""
    await client.register_workflow(demo())
    handle = await client.start("demo", {"brief": {"n": uuid.uuid4().hex}})
    await handle.wait()
    return handle


def page(engine: EngineProcess, token: str | None, **headers: str) -> httpx.AsyncClient:
    """A page: it has a token in its URLs and sends no header."""
    params = {} if token is None else {"access_token": token}
    return httpx.AsyncClient(base_url=f"{engine.http_url}/api/v1", params=params, headers=headers, timeout=30)


async def events(answer: httpx.Response) -> list[dict[str, str]]:
    """The server-sent events up to the end of the stream."""
    found: list[dict[str, str]] = [{}]
    async for line in answer.aiter_lines():
        if line:
            key, _, value = line.partition(": ")
            found[-1][key] = value
        else:
            found.append({})
    return [event for event in found if event]


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_it_reads_its_run(client: RunEngineClient, engine: EngineProcess) -> None:
    """By the URL alone a page reads the run, its steps, its artifacts and its events, with their parameters."""
    run = await finished(client)
    token = (await client.create_watch_token(run.id)).token
    async with page(engine, token) as reader:
        for path in (f"/runs/{run.id}", f"/runs/{run.id.upper()}"):
            answer = await reader.get(path, params={"view": "full"})
            assert (answer.status_code, answer.json()["id"]) == (200, run.id)
            assert "brief" in answer.json()["triggerPayload"]
        assert len((await reader.get(f"/runs/{run.id}/steps", params={"pageSize": 2})).json()["steps"]) == 2
        assert (await reader.get(f"/runs/{run.id}/artifacts")).json() == {"artifacts": []}
        told = await events(await reader.get(f"/runs/{run.id}/events", params={"afterSequence": 0}))
        assert told[-1]["event"] == "end"
        assert json.loads(told[-1]["data"])["run"]["id"] == run.id


async def test_it_reads_nothing_else(client: RunEngineClient, engine: EngineProcess) -> None:
    """Another run, lists, explanations, workflows, the cache, and whatever changes anything are closed to it."""
    run, other = await finished(client), await finished(client)
    token = (await client.create_watch_token(run.id)).token
    async with page(engine, token) as reader:
        for path in ("", "/steps", "/artifacts", "/events"):
            assert refused(await reader.get(f"/runs/{other.id}{path}")) == (403, "SCOPE_REQUIRED"), path
        for path in (
            "/runs",
            f"/runs/{run.id}/compare",
            f"/runs/{run.id}/steps/plan/explain",
            "/workflows",
            "/workflows/demo",
            "/cache/entries",
            "/cache/stats",
            f"/artifacts/{uuid.uuid4()}/lineage",
        ):
            assert refused(await reader.get(path)) == (401, "TOKEN_MISSING"), path
        for path in ("/runs", f"/runs/{run.id}/update", f"/runs/{run.id}/cancel", f"/runs/{run.id}/watch-token"):
            assert refused(await reader.post(path, json={})) == (401, "TOKEN_MISSING"), path


async def test_it_is_no_bearer_token(client: RunEngineClient, engine: EngineProcess) -> None:
    """In a header it opens nothing over any surface, and beside a header it confuses nobody."""
    run = await finished(client)
    token = (await client.create_watch_token(run.id)).token
    async with page(engine, None, authorization=f"Bearer {token}") as reader:
        assert refused(await reader.get(f"/runs/{run.id}")) == (401, "TOKEN_INVALID")
    async with page(engine, token, authorization=f"Bearer {TOKENS.reader}") as reader:
        assert refused(await reader.get(f"/runs/{run.id}")) == (401, "TOKEN_INVALID")
    async with page(engine, TOKENS.reader) as reader:
        assert refused(await reader.get(f"/runs/{run.id}")) == (401, "TOKEN_INVALID")
    async with engine.client(token) as caller:
        with pytest.raises(UnauthenticatedError):
            await caller.get_run(run.id)


async def test_over_http(client: RunEngineClient, engine: EngineProcess) -> None:
    """A page's server asks for one by HTTP; the answer says when it ends."""
    run = await finished(client)
    async with page(engine, None, authorization=f"Bearer {TOKENS.reader}") as server:
        before = datetime.now(UTC)
        answer = await server.post(f"/runs/{run.id}/watch-token", json={"ttlMs": 60_000})
        assert answer.status_code == 200
        made: dict[str, Any] = answer.json()
        assert made.keys() == {"token", "expiresAt"}
        assert timedelta(seconds=58) < datetime.fromisoformat(made["expiresAt"]) - before <= timedelta(seconds=61)
        default = (await server.post(f"/runs/{run.id}/watch-token")).json()
        assert timedelta(seconds=898) < datetime.fromisoformat(default["expiresAt"]) - before <= timedelta(seconds=910)
    async with page(engine, made["token"]) as reader:
        assert (await reader.get(f"/runs/{run.id}")).status_code == 200


async def test_who_gets_one(client: RunEngineClient, engine: EngineProcess) -> None:
    """Whoever reads the run, for an hour at most; nobody for another tenant's run."""
    run = await finished(client)
    async with engine.client(TOKENS.stranger) as stranger:
        with pytest.raises(NotFoundError):
            await stranger.create_watch_token(run.id)
    async with engine.client(TOKENS.reader) as reader:
        assert (await reader.create_watch_token(run.id, ttl=3600)).token.startswith("rew1.")
        for ttl in (3601, 0.5):
            with pytest.raises(InvalidArgumentError, match="ttl"):
                await reader.create_watch_token(run.id, ttl=ttl)


async def test_a_stream_ends_with_its_token(
    client: RunEngineClient, engine: EngineProcess, skills: SkillServerProcess
) -> None:
    """The events of a run that goes on stop when the token does, and say so; it opens nothing more."""
    await client.register_workflow(gated())
    gate = uuid.uuid4().hex
    run = await client.start("gated", {"gate": gate})
    token = (await client.create_watch_token(run.id, ttl=2)).token
    async with page(engine, token) as reader, reader.stream("GET", f"/runs/{run.id}/events") as answer:
        assert answer.status_code == 200
        told = await events(answer)
        assert told[0]["event"] == "snapshot"
        assert told[-1]["event"] == "error"
        assert json.loads(told[-1]["data"])["error"]["code"] == "TOKEN_INVALID"
        assert refused(await reader.get(f"/runs/{run.id}")) == (401, "TOKEN_INVALID")
    await run.cancel()


async def test_another_engine_takes_it(
    client: RunEngineClient, engine_settings: EngineSettings, engine: EngineProcess
) -> None:
    """A token that one engine made opens the run on another one on the same database."""
    run = await finished(client)
    token = (await client.create_watch_token(run.id)).token
    with EngineProcess(engine_settings, "second") as second:
        async with page(second, token) as reader:
            assert (await reader.get(f"/runs/{run.id}")).status_code == 200


async def test_it_is_in_no_log(client: RunEngineClient, engine: EngineProcess) -> None:
    """Whatever was asked with it, also in vain, the engine's log has nothing of it."""
    run = await finished(client)
    token = (await client.create_watch_token(run.id)).token
    async with page(engine, token) as reader:
        for path in (f"/runs/{run.id}", "/runs", f"/runs/{run.id}/nothing"):
            await reader.get(path, params={"nonsense": 1})
        await reader.get(f"/runs/{run.id}/events")
    log = engine.log
    assert token not in log
    assert token.rpartition(".")[2] not in log
