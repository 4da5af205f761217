"""JSON Web Tokens: who they are, and everything for which they are refused."""

import base64
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey

from runengine_server.adapters.clock import SystemClock
from runengine_server.adapters.tokens.jwks import Jwks
from runengine_server.adapters.tokens.jwt_tokens import JwtRules, JwtTokens
from runengine_server.adapters.tokens.static_tokens import StaticTokens
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import UnauthenticatedError

from ...support.token_issuer import AUDIENCE, ISSUER, claims_of, key_set, new_key, signed

pytestmark = pytest.mark.anyio

RULES = JwtRules(issuer=ISSUER, audience=AUDIENCE)
KEYS = {name: new_key(name.lower(), name) for name in ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")}
KEY = KEYS["ES256"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def keys_url(tmp_path: Path) -> str:
    """A key set in a file."""
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(*KEYS.values()))
    return path.as_uri()


@pytest.fixture
def tokens(keys_url: str) -> JwtTokens:
    """An authenticator with all keys."""
    return JwtTokens(RULES, Jwks(keys_url, SystemClock()))


async def refusal(tokens: JwtTokens, token: str) -> str:
    """Why the token is refused; never with any of its parts."""
    with pytest.raises(UnauthenticatedError) as caught:
        await tokens.authenticate(token)
    assert caught.value.reason == "TOKEN_INVALID"
    assert not any(len(part) > 8 and part in caught.value.message for part in token.split("."))
    return caught.value.message


@pytest.mark.parametrize("algorithm", KEYS)
async def test_every_accepted_algorithm(tokens: JwtTokens, algorithm: str) -> None:
    """A token is its caller until its `exp`: subject, tenant and the scopes that are known."""
    claims = claims_of(aud=["other", AUDIENCE], nbf=int(time.time()))
    caller = await tokens.authenticate(signed(KEYS[algorithm], claims, algorithm))
    assert caller == Caller(
        principal="ann",
        tenant="acme",
        scopes=frozenset({Scope.RUN_READ, Scope.RUN_WRITE}),
        expires_at=datetime.fromtimestamp(int(str(claims["exp"])), UTC),
    )


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (["cache:admin", "x", 3], {Scope.CACHE_ADMIN}),
        ("workflow:write", {Scope.WORKFLOW_WRITE}),
        ("", set()),
        ([], set()),
        (None, set()),
        ("run:readx run", set()),
    ],
)
async def test_scopes(tokens: JwtTokens, scope: object, expected: set[Scope]) -> None:
    """Text and lists name scopes; others are no concern of ours, and none are none."""
    assert (await tokens.authenticate(signed(KEY, claims_of(scope=scope)))).scopes == expected


async def test_claims_by_other_names(keys_url: str) -> None:
    """Tenant and scopes are where the settings say, whatever else the token claims."""
    rules = JwtRules(issuer=ISSUER, audience=AUDIENCE, tenant_claim="https://a.example/org", scope_claim="permissions")
    tokens = JwtTokens(rules, Jwks(keys_url, SystemClock()))
    claims = claims_of(**{"https://a.example/org": "globex", "permissions": ["run:read"]})
    caller = await tokens.authenticate(signed(KEY, claims))
    assert (caller.tenant, caller.scopes) == ("globex", {Scope.RUN_READ})


NOW = int(time.time())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exp": NOW - 1}, "expired"),
        ({"exp": NOW - 100}, "expired"),
        ({"exp": None}, "lacks exp"),
        ({"exp": "tomorrow"}, "wrong exp"),
        ({"exp": True}, "wrong exp"),
        ({"exp": 10**400}, "wrong exp"),
        ({"exp": 1e300}, "wrong exp"),
        ({"iss": "https://issuer.example"}, "another issuer"),
        ({"iss": [ISSUER]}, "another issuer"),
        ({"iss": None}, "lacks iss"),
        ({"aud": "runengine2"}, "another audience"),
        ({"aud": ["a", "b"]}, "another audience"),
        ({"aud": {AUDIENCE: 1}}, "another audience"),
        ({"aud": None}, "lacks aud"),
        ({"sub": None}, "lacks sub"),
        ({"sub": ""}, "wrong sub"),
        ({"sub": 7}, "wrong sub"),
        ({"sub": "a" * 257}, "wrong sub"),
        ({"nbf": NOW + 3600}, "not valid yet"),
        ({"nbf": "x"}, "not valid yet"),
        ({"iat": NOW + 3600}, "issued in the future"),
        ({"tenant": None}, "names no tenant: its claim tenant"),
        ({"tenant": ["acme"]}, "names no tenant"),
        ({"tenant": "a:b"}, "names no tenant"),
        ({"scope": {"run:read": 1}}, "wrong scope"),
        ({"scope": 7}, "wrong scope"),
    ],
)
async def test_wrong_claims(tokens: JwtTokens, changes: dict[str, object], message: str) -> None:
    """What is missing or wrong is named."""
    assert message in await refusal(tokens, signed(KEY, claims_of(**changes)))


async def test_it_ends_by_the_clock(keys_url: str) -> None:
    """From `exp` on it is refused, to the second; an issuer whose clock is a little ahead is not."""
    start = datetime.now(UTC).replace(microsecond=0)
    now = [start - timedelta(seconds=20)]
    tokens = JwtTokens(RULES, Jwks(keys_url, SystemClock()), lambda: now[0])
    begin = int(start.timestamp())
    token = signed(KEY, claims_of(iat=begin, nbf=begin, exp=begin + 60))
    await tokens.authenticate(token)
    now[0] = start + timedelta(seconds=59.9)
    await tokens.authenticate(token)
    now[0] = start + timedelta(seconds=60)
    assert "expired" in await refusal(tokens, token)
    now[0] = start - timedelta(seconds=31)
    assert "issued in the future" in await refusal(tokens, token)
    assert "not valid yet" in await refusal(tokens, signed(KEY, claims_of(iat=None, nbf=begin)))


def unsigned(header: object, claims: object) -> str:
    return f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}."


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


async def test_unsigned(tokens: JwtTokens) -> None:
    """`none` is no algorithm, in any spelling."""
    for name in ("none", "None", "NONE", "", None, ["ES256"]):
        token = unsigned({"alg": name, "kid": KEY.kid}, claims_of())
        assert "not signed with one of" in await refusal(tokens, token)


async def test_a_public_key_is_no_secret(tokens: JwtTokens) -> None:
    """Whoever uses the public key as the secret of HS256 has signed nothing."""
    key = KEYS["RS256"]
    assert isinstance(key, RSAKey)
    body = unsigned({"alg": "HS256", "kid": key.kid}, claims_of()).rstrip(".")
    for public in (key.as_pem(private=False), key.as_der(private=False)):
        token = f"{body}.{encoded(hmac.digest(public, body.encode(), 'sha256'))}"
        assert "not signed with one of" in await refusal(tokens, token)


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "ES384", "ES256K"])
async def test_other_algorithms(tokens: JwtTokens, algorithm: str) -> None:
    """Algorithms that are not on the list are not looked at."""
    token = unsigned({"alg": algorithm, "kid": KEY.kid}, claims_of())
    assert "not signed with one of" in await refusal(tokens, token)


async def test_another_kind_of_key(tokens: JwtTokens) -> None:
    """The algorithm that a token names must be one that its key is for."""
    token = signed(KEY, claims_of(), kid=KEYS["RS256"].kid)
    assert "another algorithm than its key" in await refusal(tokens, token)


async def test_forged(tokens: JwtTokens) -> None:
    """A key of the same id, another payload or header, and half a signature verify nothing."""
    assert "wrong signature" in await refusal(tokens, signed(new_key(str(KEY.kid)), claims_of()))
    header, _, signature = signed(KEY, claims_of()).split(".")
    payload = signed(KEY, claims_of(tenant="globex")).split(".")[1]
    assert "wrong signature" in await refusal(tokens, f"{header}.{payload}.{signature}")
    assert "wrong signature" in await refusal(tokens, f"{header}.{payload}.{signature[:40]}")
    assert "wrong signature" in await refusal(tokens, f"{header}.{payload}.")


async def test_unknown_keys(tokens: JwtTokens) -> None:
    """A key that is not published, or not named, verifies nothing; neither does one that the token brings along."""
    mine = new_key("mine")
    assert "does not publish" in await refusal(tokens, signed(mine, claims_of()))
    brought = signed(mine, claims_of(), jwk=mine.as_dict(private=False), jku="https://evil.example/jwks.json")
    assert "does not publish" in await refusal(tokens, brought)
    assert "needs `kid`" in await refusal(tokens, signed(KEY, claims_of(), kid=None))
    assert "needs `kid`" in await refusal(tokens, unsigned({"alg": "ES256", "kid": 7}, claims_of()))


async def test_critical_headers(tokens: JwtTokens) -> None:
    """What a token calls critical and we do not know is reason to refuse it; other headers are not."""
    _, payload, signature = signed(KEY, claims_of()).split(".")
    critical = unsigned({"alg": "ES256", "kid": KEY.kid, "crit": ["exp"], "exp": 1}, {}).split(".")[0]
    assert "header" in await refusal(tokens, f"{critical}.{payload}.{signature}")
    assert (await tokens.authenticate(signed(KEY, claims_of(), x5t="abc", made_up="1"))).principal == "ann"


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b.c",
        "..",
        "\udc80.a.b",
        "é.a.b",
        unsigned("alg", {}),
        unsigned(["alg"], {}),
        unsigned(7, {}),
        unsigned({}, {}),
        "a" * 20_000,
        unsigned({"alg": "ES256", "kid": "x" * 600}, {}),
    ],
)
async def test_other_forms(tokens: JwtTokens, token: str) -> None:
    """What is no JSON Web Token is refused as such."""
    assert await refusal(tokens, token) == "the token is no JSON Web Token"


async def test_no_token(tokens: JwtTokens) -> None:
    """None is missing."""
    for token in (None, ""):
        with pytest.raises(UnauthenticatedError) as caught:
            await tokens.authenticate(token)
        assert caught.value.reason == "TOKEN_MISSING"


async def test_beside_listed_tokens(keys_url: str) -> None:
    """A token of another form is looked up in the list, also one with dots; a JSON Web Token never is."""
    forged = signed(new_key(str(KEY.kid)), claims_of())
    for listed in ("secret", "a.b.c"):
        tokens = JwtTokens(RULES, Jwks(keys_url, SystemClock()), otherwise=StaticTokens.for_development(listed))
        assert (await tokens.authenticate(listed)).principal == "dev"
        assert (await tokens.authenticate(signed(KEY, claims_of()))).principal == "ann"
        assert "not known" in await refusal(tokens, "another")
    tokens = JwtTokens(RULES, Jwks(keys_url, SystemClock()), otherwise=StaticTokens.for_development(forged))
    assert "wrong signature" in await refusal(tokens, forged)
