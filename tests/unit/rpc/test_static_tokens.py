"""The tokens file and the authenticator over it."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runengine_server.adapters.tokens.anonymous import AnonymousAuthenticator
from runengine_server.adapters.tokens.static_tokens import StaticTokens, dev_token
from runengine_server.adapters.tokens.tokens_file import TokensFileError, read_tokens_file
from runengine_server.domain.caller import Scope
from runengine_server.domain.errors import UnauthenticatedError

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECRET = "s3cret-token-of-ann"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tokens.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(TokensFileError) as caught:
        read_tokens_file(write(tmp_path, text))
    assert SECRET not in str(caught.value)
    return list(caught.value.problems)


@pytest.mark.anyio
async def test_a_listed_token_is_its_caller(tmp_path: Path) -> None:
    """YAML and JSON, plain and hashed tokens alike, name principal, tenant, scopes and expiry."""
    digest = hashlib.sha256(b"other").hexdigest()
    yaml_path = write(
        tmp_path,
        f"""
- {{token: {SECRET}, principal: ann, tenant: acme, scopes: [run:read, "run:write"], expires_at: 2026-11-24T00:00:00Z}}
- {{token_sha256: "{digest.upper()}", principal: bob, tenant: globex, scopes: [cache:admin]}}
""",
    )
    tokens = StaticTokens.from_file(yaml_path, lambda: NOW)
    ann = await tokens.authenticate(SECRET)
    assert (ann.principal, ann.tenant, ann.scopes) == ("ann", "acme", {Scope.RUN_READ, Scope.RUN_WRITE})
    assert ann.expires_at == NOW + timedelta(days=1)
    assert (await tokens.authenticate("other")).scopes == {Scope.CACHE_ADMIN}
    entry = {
        "token": "x",
        "principal": "p",
        "tenant": "t",
        "scopes": ["run:read"],
        "expires_at": "2027-01-01T00:00:00+01:00",
    }
    (read,) = read_tokens_file(write(tmp_path, json.dumps([entry])))
    assert read.caller.expires_at == datetime(2026, 12, 31, 23, tzinfo=UTC)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("token", "reason"),
    [(None, "TOKEN_MISSING"), ("", "TOKEN_MISSING"), ("wrong", "TOKEN_INVALID"), ("\udc80", "TOKEN_INVALID")],
)
async def test_other_tokens_are_refused(token: str | None, reason: str) -> None:
    """No token and an unknown one have their own reasons."""
    with pytest.raises(UnauthenticatedError) as caught:
        await StaticTokens.for_development(SECRET).authenticate(token)
    assert caught.value.reason == reason


@pytest.mark.anyio
async def test_a_token_expires(tmp_path: Path) -> None:
    """From its expiry on a token is invalid; the clock is asked at every call."""
    path = write(
        tmp_path,
        json.dumps(
            [{"token": "x", "principal": "p", "tenant": "t", "scopes": ["run:read"], "expires_at": NOW.isoformat()}]
        ),
    )
    now = [NOW - timedelta(seconds=1)]
    tokens = StaticTokens.from_file(path, lambda: now[0])
    assert (await tokens.authenticate("x")).principal == "p"
    now[0] = NOW
    with pytest.raises(UnauthenticatedError, match="expired"):
        await tokens.authenticate("x")


def test_every_mistake_of_a_file_is_listed(tmp_path: Path) -> None:
    """One message per mistake, with the entry's index and key, and never the token."""
    text = f"""
- {{token: {SECRET}, token_sha256: "{"a" * 64}", principal: ann, tenant: acme, scopes: [run:read]}}
- {{token: {SECRET}, principal: "", tenant: "a:b", scopes: [run:fly], expires_at: 2026-11-24T00:00:00}}
- {{token_sha256: "abc", principal: p, tenant: t, scopes: [], expire: never}}
- just text
"""
    places = [problem.partition(": ")[0] for problem in problems_of(tmp_path, text)]
    assert places == [
        "[0].token",
        "[1].principal",
        "[1].tenant",
        "[1].scopes[0]",
        "[1].expires_at",
        "[2]",
        "[2].token_sha256",
        "[2].scopes",
        "[3]",
    ]


def test_a_token_listed_twice_is_refused(tmp_path: Path) -> None:
    """The same token for two callers would make one of them the other."""
    entry = {"token": SECRET, "principal": "p", "tenant": "t", "scopes": ["run:read"]}
    hashed = {**entry, "token_sha256": hashlib.sha256(SECRET.encode()).hexdigest()}
    del hashed["token"]
    assert problems_of(tmp_path, json.dumps([entry, hashed])) == ["[1]: the token is listed twice"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "a: [", "\t", "- !!python/object:os.system {}"])
def test_files_that_are_no_list_are_refused(tmp_path: Path, text: str) -> None:
    """Empty files, other shapes and broken YAML are named with the file; YAML tags run no code."""
    assert len(problems_of(tmp_path, text)) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is a configuration error with its path."""
    with pytest.raises(TokensFileError, match=r"nowhere\.yaml: cannot be read"):
        read_tokens_file(tmp_path / "nowhere.yaml")


@pytest.mark.anyio
async def test_development_tokens_are_new_and_allow_everything() -> None:
    """Two development tokens differ, are long, and carry every scope."""
    token = dev_token()
    assert token != dev_token()
    assert len(token) > 40
    assert (await StaticTokens.for_development(token).authenticate(token)).scopes == frozenset(Scope)


@pytest.mark.anyio
async def test_anonymous_access_is_one_caller() -> None:
    """Anonymous access is the same caller with and without a token."""
    anonymous = AnonymousAuthenticator()
    assert await anonymous.authenticate(None) == await anonymous.authenticate("any")
