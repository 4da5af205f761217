"""The console's files as they are served: what a browser may do with them, how long it keeps them, their size."""

import gzip
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from runengine_server.http.console import PAGES, console_routes

pytestmark = pytest.mark.anyio

FIRST_LOAD_BYTES_MAX = 300_000


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=Starlette(routes=console_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
        yield client


def assets_of(text: str) -> set[str]:
    """The files that a page or a style sheet names."""
    return set(re.findall(r"/assets/[\w.-]+\.\w+", text))


async def test_every_page_is_the_console(http: httpx.AsyncClient) -> None:
    """At each address is the same page, asked for anew each time, which may run its own scripts only."""
    for path in PAGES:
        answer = await http.get(path.replace("{id}", "abc").replace("{name}", "a.b"))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "://" not in policy
    assert "<script>" not in answer.text
    assert " style=" not in answer.text


async def test_assets_never_change(http: httpx.AsyncClient) -> None:
    """What the page names is there, with its type, and may be kept for ever."""
    named = assets_of((await http.get("/")).text)
    assert {path.rpartition(".")[2] for path in named} == {"js", "css", "svg"}
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    for path in named:
        answer = await http.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == types[path.rpartition(".")[2]]
        assert "immutable" in answer.headers["cache-control"]


async def test_compressed_only_for_who_understands_it(http: httpx.AsyncClient) -> None:
    """The compressed copy is the plain one compressed; who does not ask for gzip gets the plain one."""
    [path] = [path for path in assets_of((await http.get("/")).text) if path.endswith(".js")]
    plain = await http.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    async with http.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "accept-encoding"
        packed = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert gzip.decompress(packed) == plain.content


async def test_what_is_not_there(http: httpx.AsyncClient) -> None:
    """A file of another build is not found, and that is not kept; nothing outside of the folder is served."""
    gone = await http.get("/assets/index-00000000.js")
    assert (gone.status_code, gone.headers["cache-control"]) == (404, "no-store")
    for path in ("/assets/../console.py", "/assets/..%2Fconsole.py", "/assets/index.html", "/index.html"):
        assert (await http.get(path)).status_code == 404


async def test_first_load_is_small(http: httpx.AsyncClient) -> None:
    """Page, scripts, styles and fonts of the first view are at most 300 KB as they travel."""
    page = (await http.get("/")).text
    named = assets_of(page)
    for path in [path for path in named if path.endswith(".css")]:
        named |= assets_of((await http.get(path)).text)
    sizes = {}
    for path in named:
        async with http.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
            sizes[path] = sum([len(chunk) async for chunk in answer.aiter_raw()])
    assert any(path.endswith(".woff2") for path in sizes)
    assert sum(sizes.values()) + len(page) < FIRST_LOAD_BYTES_MAX, sizes
