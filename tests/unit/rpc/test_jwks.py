"""An issuer's keys over real HTTP: rotation, outages, bounds, and how often it is asked."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, RSAKey

from runengine_server.adapters.tokens import jwks
from runengine_server.adapters.tokens.jwks import Jwks, JwksError, check_jwks_url, fetch_keys, read_keys
from runengine_server.domain.errors import UnavailableError

from ...support.manual_clock import ManualClock
from ...support.token_issuer import TokenIssuer, key_set, new_key, token_issuer

pytestmark = pytest.mark.anyio

OLD, NEW = new_key("old"), new_key("new")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def issuer() -> Iterator[TokenIssuer]:
    """It publishes the old key."""
    with token_issuer(key_set(OLD)) as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def keys(issuer: TokenIssuer, clock: ManualClock) -> Jwks:
    return Jwks(issuer.url, clock)


async def until_asked(issuer: TokenIssuer) -> None:
    """The issuer has been asked once more."""
    assert await asyncio.to_thread(issuer.arrivals.acquire, timeout=10)


async def test_a_new_key_is_found(issuer: TokenIssuer, keys: Jwks, clock: ManualClock) -> None:
    """An unknown id makes us look, once in 30 s; known ones cost nothing meanwhile."""
    assert await keys.key("old") is not None
    issuer.content = key_set(OLD, NEW)
    clock.at += 29
    for _ in range(5):
        assert await keys.key("new") is None
        assert await keys.key("old") is not None
    assert issuer.asked == 1
    clock.at += 2
    assert await keys.key("new") is not None
    for _ in range(5):
        assert await keys.key("made up") is None
    assert issuer.asked == 2


async def test_callers_share_a_fetch(issuer: TokenIssuer, keys: Jwks) -> None:
    """Whoever comes while keys are fetched waits for these, also when the first one gives up."""
    issuer.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(keys.key("old")) for _ in range(20)]
        await until_asked(issuer)
        callers[0].cancel()
        issuer.gate.set()
    assert callers[0].cancelled()
    assert all(isinstance(each.result(), ECKey) for each in callers[1:])
    assert issuer.asked == 1


async def test_old_keys_are_read_again(issuer: TokenIssuer, keys: Jwks, clock: ManualClock) -> None:
    """After ten minutes keys are read anew while calls go on with the old ones; one that is withdrawn is gone then."""
    await keys.key("old")
    await until_asked(issuer)
    issuer.content = key_set(NEW)
    issuer.gate.clear()
    clock.at += 601
    assert await keys.key("old") is not None
    await until_asked(issuer)
    assert await keys.key("old") is not None
    issuer.gate.set()
    assert await keys.key("new") is not None
    assert await keys.key("old") is None
    assert issuer.asked == 2


async def test_keys_outlive_an_outage(
    issuer: TokenIssuer, keys: Jwks, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """While the issuer answers with errors or nonsense, known keys stay; it is asked every 30 s and found again."""
    await keys.key("old")
    issuer.status = 500
    for seconds in (601, 31):
        clock.at += seconds
        assert await keys.key("unknown") is None
        assert await keys.key("old") is not None
    assert issuer.asked == 3
    issuer.status, issuer.content = 200, b'{"keys": []}'
    clock.at += 31
    assert await keys.key("unknown") is None
    assert await keys.key("old") is not None
    assert "answers with status 500" in caplog.text
    issuer.content = key_set(NEW)
    clock.at += 31
    assert await keys.key("new") is not None


async def test_no_keys_yet(issuer: TokenIssuer, keys: Jwks, clock: ManualClock) -> None:
    """Without any keys nobody can be told from anybody: try again, in a second; the issuer is asked once in it."""
    issuer.status = 503
    for _ in range(5):
        with pytest.raises(UnavailableError) as caught:
            await keys.key("old")
        assert (caught.value.reason, caught.value.retry_after_s) == ("AUTHENTICATION_UNAVAILABLE", 1.0)
    assert issuer.asked == 1
    issuer.status = 200
    clock.at += 1
    assert await keys.key("old") is not None


async def test_bounds(issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirects, long answers, slow ones and dead ports are no keys."""
    issuer.status, issuer.headers = 302, {"location": issuer.url}
    with pytest.raises(JwksError, match="status 302"):
        await fetch_keys(issuer.url)
    assert issuer.asked == 1
    issuer.status, issuer.headers, issuer.content = 200, {}, key_set(OLD) + b" " * (256 * 1024)
    with pytest.raises(JwksError, match="larger than 256 KiB"):
        await fetch_keys(issuer.url)
    with pytest.raises(JwksError, match="cannot be read"):
        await fetch_keys("http://127.0.0.1:1/")
    monkeypatch.setattr(jwks, "FETCH_S_MAX", 0.05)
    issuer.gate.clear()
    with pytest.raises(JwksError, match="no answer within"):
        await fetch_keys(issuer.url)


async def test_a_file(tmp_path: Path) -> None:
    """Keys may be in a file, whose name may need escapes."""
    path = tmp_path / "key set.json"
    with pytest.raises(JwksError, match="No such file"):
        await fetch_keys(path.as_uri())
    path.write_bytes(key_set(OLD))
    assert (await fetch_keys(path.as_uri())).keys() == {"old"}


def test_only_keys_that_verify() -> None:
    """Secrets, keys for encryption or for other algorithms, weak and broken ones, and those without id are left out."""
    public = OLD.as_dict(private=False)
    with pytest.warns(SecurityWarning):
        short = RSAKey.generate_key(1024, {"kid": "short"}).as_dict(private=False)
    listed: list[object] = [
        public,
        {**public, "kid": "enc", "use": "enc"},
        {**public, "kid": "ops", "key_ops": ["sign"]},
        {**public, "kid": "alg", "alg": "ES384"},
        {**public, "kid": "broken", "x": "!"},
        {**public, "kid": 7},
        {name: value for name, value in public.items() if name != "kid"},
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        short,
        ECKey.generate_key("P-384", {"kid": "curve"}).as_dict(private=False),
        "text",
    ]
    keys = read_keys(json.dumps({"keys": listed}).encode())
    assert keys.keys() == {"old"}
    own = read_keys(json.dumps({"keys": [OLD.as_dict(private=True)]}).encode())
    assert not own["old"].is_private


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b"\xff", b"[" * 99999]
)
def test_no_key_set(content: bytes) -> None:
    """What is no key set, and one without a usable key, is an error."""
    with pytest.raises(JwksError):
        read_keys(content)


@pytest.mark.parametrize(
    ("url", "is_accepted"),
    [
        ("https://issuer.example/jwks", True),
        ("http://127.0.0.1:8080/jwks", True),
        ("http://[::1]/jwks", True),
        ("http://localhost/jwks", True),
        ("file:///etc/jwks.json", True),
        ("http://issuer.example/jwks", False),
        ("http://localhost.example/jwks", False),
        ("https://ann:secret@issuer.example/jwks", False),
        ("https://", False),
        ("https://[", False),
        ("https://a:b/", False),
        ("file://host/path", False),
        ("file:relative", False),
        ("ftp://issuer.example/", False),
        ("jwks.json", False),
        ("", False),
    ],
)
def test_urls(url: str, is_accepted: bool) -> None:
    """Keys come over TLS, from this machine or from a file."""
    if is_accepted:
        check_jwks_url(url)
        return
    with pytest.raises(JwksError):
        check_jwks_url(url)
