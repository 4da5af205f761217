"""The console as an engine serves it, without a browser: pages beside the API, and neither in the other's way."""

import httpx
import pytest

from ..support.engine_process import EngineProcess


@pytest.mark.parametrize("path", ["/", "/runs", "/runs/abc", "/queue", "/workflows", "/workflows/campaign.build.v1"])
def test_pages_need_no_token(engine: EngineProcess, path: str) -> None:
    """Each address of the console answers with its page, whose policy lets nothing foreign in; data needs a token."""
    answer = httpx.get(engine.http_url + path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert httpx.get(f"{engine.http_url}/api/v1/runs").status_code == 401


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/nowhere", "/runs/abc/steps", "/assets/nothing.js"])
def test_other_addresses_are_refused_as_before(engine: EngineProcess, path: str) -> None:
    """What is neither page nor API is not found, in JSON."""
    answer = httpx.get(engine.http_url + path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "PATH_NOT_FOUND"
