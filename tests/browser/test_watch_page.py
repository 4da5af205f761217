"""The TypeScript page with connect-web in a real Chromium: events one by one, through every interruption."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from ..support.browser import build_page
from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.skill_server_process import SkillServerProcess
from ..support.tcp_proxy import TcpProxy
from .watch_page import FOLDER, WatchPage, served, two_gates

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the page is served: not the engine's origin, so that the browser asks whether it may call."""
    build_page(FOLDER)
    with served(FOLDER / "dist") as url:
        yield url


@pytest.fixture(scope="module")
def engine_settings(engine_settings: EngineSettings, origin: str) -> EngineSettings:
    """Engines that the page's origin may call."""
    environment = {"RUNENGINE_CORS_ORIGINS": origin, "RUNENGINE_LEASE_S": "2"}
    return EngineSettings(
        database_url=engine_settings.database_url,
        redis_url=engine_settings.redis_url,
        skills=engine_settings.skills,
        folder=engine_settings.folder,
        environment=environment,
    )


@pytest.fixture
async def registered(engine: EngineProcess) -> None:
    """The engine knows the workflow."""
    async with engine.client() as client:
        await client.register_workflow(two_gates())


def gates(name: str) -> str:
    """A payload whose two gates are the test's own."""
    return json.dumps({"first": f"{name}-1", "second": f"{name}-2"})


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("protocol", ["connect", "grpc-web"])
async def test_events_arrive_one_by_one(
    engine: EngineProcess,
    skills: SkillServerProcess,
    origin: str,
    page: Page,
    console_errors: list[str],
    protocol: str,
) -> None:
    """While the run goes on, each event shows when it happens; at the end every one is there, once and in order."""
    watching = WatchPage(page, origin, protocol=protocol)
    await watching.start(engine.http_url, TOKENS.writer, gates(protocol))
    await watching.has_event("first is running")
    await watching.is_in("live")
    before = await watching.sequences()

    skills.open_gate(f"{protocol}-1")
    await watching.has_event("second is running")
    await expect(watching.events.filter(has_text="last is")).to_have_count(0)
    between = await watching.sequences()
    assert len(between) > len(before)

    skills.open_gate(f"{protocol}-2")
    await watching.is_in("ended")
    await watching.has_event("run is completed")
    shown = await watching.sequences()
    assert shown == list(range(1, len(shown) + 1))
    assert shown[: len(between)] == between
    assert console_errors == []


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("ending", ["terminated", "killed"])
async def test_a_restart_of_the_server_loses_nothing(
    engine_settings: EngineSettings, skills: SkillServerProcess, origin: str, page: Page, ending: str
) -> None:
    """The server ends while the page follows a run; when it is back the page goes on where it was, without a gap."""
    watching = WatchPage(page, origin)
    with EngineProcess(engine_settings, name=f"{ending}-1") as first:
        await watching.start(first.http_url, TOKENS.writer, gates(ending))
        await watching.has_event("first is running")
        before = await watching.sequences()
        if ending == "terminated":
            first.terminate()
        else:
            first.kill()
        await watching.is_in("reconnecting")
        first.wait()
    skills.open_gate(f"{ending}-1")
    skills.open_gate(f"{ending}-2")
    with EngineProcess(engine_settings, f"{ending}-2", RUNENGINE_HTTP_ADDRESS=urlsplit(first.http_url).netloc):
        await watching.is_in("ended")
    shown = await watching.sequences()
    assert shown == list(range(1, len(shown) + 1))
    assert shown[: len(before)] == before
    assert len(shown) > len(before)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("protocol", ["connect", "grpc-web"])
async def test_a_broken_connection_loses_nothing(
    engine: EngineProcess, skills: SkillServerProcess, origin: str, page: Page, protocol: str
) -> None:
    """The connection is cut twice while the page follows a run; what happened meanwhile follows, each event once."""
    upstream = urlsplit(engine.http_url)
    assert upstream.hostname is not None
    assert upstream.port is not None
    watching = WatchPage(page, origin, protocol=protocol)
    async with TcpProxy(upstream.hostname, upstream.port).running() as proxy:
        await watching.start(f"http://{proxy.address}", TOKENS.writer, gates(f"cut-{protocol}"))
        await watching.has_event("first is running")
        proxy.cut()
        skills.open_gate(f"cut-{protocol}-1")
        await watching.has_event("second is running")
        proxy.cut()
        assert proxy.cuts > 0
        skills.open_gate(f"cut-{protocol}-2")
        await watching.is_in("ended")
    shown = await watching.sequences()
    assert shown == list(range(1, len(shown) + 1))


async def test_a_refusal_is_shown(engine: EngineProcess, origin: str, page: Page) -> None:
    """What the engine refuses is told in its own words, with the code that the client can act on."""
    watching = WatchPage(page, origin)
    await watching.start(engine.http_url, "nobody's", "{}")
    await expect(watching.problem).to_have_text("Unauthenticated: The token is not known to this server")
    await watching.start(engine.http_url, TOKENS.reader, "{}")
    await expect(watching.problem).to_contain_text("PermissionDenied: the token lacks the scope run:write")


async def test_other_origins_may_not_call(engine: EngineProcess, page: Page, origin: str) -> None:
    """A page of an origin that the engine was not told of cannot call it, and says what would help."""
    with served(FOLDER / "dist") as foreign:
        assert foreign != origin
        watching = WatchPage(page, foreign)
        await watching.start(engine.http_url, TOKENS.writer, "{}")
        await expect(watching.problem).to_contain_text(f"with {foreign} in its RUNENGINE_CORS_ORIGINS")
