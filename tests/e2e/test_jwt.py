"""Tokens of an issuer, on every surface, beside those of the file."""

import time
import uuid
from collections.abc import Iterator

import httpx
import pytest
from joserfc.jwk import Key

from runengine_client import RunEngineClient
from runengine_client.errors import NotFoundError, PermissionDeniedError, UnauthenticatedError

from ..support.engine_process import EngineProcess, EngineSettings
from ..support.server_sent_events import ServerSentEvent, read_events
from ..support.skill_server_process import SkillServerProcess
from ..support.token_issuer import AUDIENCE, ISSUER, TokenIssuer, claims_of, key_set, new_key, signed, token_issuer
from .workflows import demo, gated

pytestmark = pytest.mark.anyio

KEY = new_key("first")


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    """The engine's issuer."""
    with token_issuer(key_set(KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def engine(engine_settings: EngineSettings, issuer: TokenIssuer) -> Iterator[EngineProcess]:
    """A server that takes the issuer's tokens beside those of its file."""
    with EngineProcess(
        engine_settings,
        RUNENGINE_JWT_JWKS_URL=issuer.url,
        RUNENGINE_JWT_ISSUER=ISSUER,
        RUNENGINE_JWT_AUDIENCE=AUDIENCE,
    ) as process:
        yield process


def token_for(key: Key = KEY, **changes: object) -> str:
    return signed(key, claims_of(**changes))


def http(engine: EngineProcess, token: str) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=f"{engine.http_url}/api/v1", headers=headers, timeout=30)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_on_every_surface(client: RunEngineClient, engine: EngineProcess) -> None:
    """Tenant and scopes of a token hold over gRPC and HTTP; tokens of the file work on."""
    await client.register_workflow(demo())
    async with engine.client(token_for()) as ann:
        run = await ann.start("demo", {"brief": {"n": uuid.uuid4().hex}})
        await run.wait()
        with pytest.raises(PermissionDeniedError):
            await ann.register_workflow(demo())
    assert (await client.get_run(run.id)).id == run.id
    async with engine.client(token_for(tenant="globex")) as stranger:
        with pytest.raises(NotFoundError):
            await stranger.get_run(run.id)
    async with (
        http(engine, token_for()) as ann_over_http,
        http(engine, token_for(tenant="globex")) as stranger_over_http,
    ):
        assert (await ann_over_http.get(f"/runs/{run.id}")).json()["id"] == run.id
        assert code_of(await stranger_over_http.get(f"/runs/{run.id}")) == (404, "RUN_NOT_FOUND")


async def test_refused_on_every_surface(engine: EngineProcess) -> None:
    """A token that somebody else signed, or that expired, is refused with the same reason; the log has none of it."""
    for token in (token_for(new_key("first")), token_for(exp=int(time.time()) - 1)):
        async with engine.client(token) as caller, http(engine, token) as caller_over_http:
            with pytest.raises(UnauthenticatedError) as caught:
                await caller.get_run(str(uuid.uuid4()))
            assert caught.value.reason == "TOKEN_INVALID"
            assert code_of(await caller_over_http.get("/runs")) == (401, "TOKEN_INVALID")
        assert not any(part in engine.log for part in token.split("."))


async def test_streams_end_with_the_token(
    client: RunEngineClient, engine: EngineProcess, skills: SkillServerProcess
) -> None:
    """A watch and an event stream of a run that goes on end at `exp`, and say why."""
    await client.register_workflow(gated())
    run = await client.start("gated", {"gate": uuid.uuid4().hex})
    ends = int(time.time()) + 3
    token = token_for(exp=ends)
    async with engine.client(token) as ann, http(engine, token) as ann_over_http:
        events = await told(ann_over_http, run.id)
        assert events[0].name == "snapshot"
        assert (events[-1].name, events[-1].data["error"]["code"]) == ("error", "TOKEN_INVALID")
        assert ends <= time.time() < ends + 5
        with pytest.raises(UnauthenticatedError):
            await ann.get_run(run.id)
    ends = int(time.time()) + 3
    async with engine.client(token_for(exp=ends)) as ann:
        with pytest.raises(UnauthenticatedError, match="expired"):
            await ann.run(run.id).wait()
        assert ends <= time.time() < ends + 5
    await run.cancel()


async def told(caller: httpx.AsyncClient, run_id: str) -> list[ServerSentEvent]:
    """The events of the run until their stream ends."""
    return list(read_events((await caller.get(f"/runs/{run_id}/events")).text.splitlines()))
