"""Which tokens the settings let in."""

import json
from pathlib import Path

import pytest

from runengine_server.config import ConfigurationError, Settings
from runengine_server.configured import authenticator_of
from runengine_server.domain.errors import UnauthenticatedError

from ...support.token_issuer import AUDIENCE, ISSUER, claims_of, key_set, new_key, signed

KEY = new_key("first")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def jwt(tmp_path: Path) -> dict[str, str]:
    """Settings of an issuer."""
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(KEY))
    return {
        "jwt_jwks_url": path.as_uri(),
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
        "jwt_tenant_claim": "org",
        "jwt_scope_claim": "scp",
    }


@pytest.fixture
def listed(tmp_path: Path) -> dict[str, str]:
    """Settings of a tokens file."""
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps([{"token": "s3", "principal": "p", "tenant": "t", "scopes": ["run:read"]}]))
    return {"tokens_file": str(path)}


def settings(**values: str) -> Settings:
    return Settings(DATABASE_URL="postgresql://x", **values)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_file_and_issuer(jwt: dict[str, str], listed: dict[str, str]) -> None:
    """A file, an issuer, or both: each lets in its own tokens and no others."""
    token = signed(KEY, claims_of(org="globex", scp=["run:write"]))
    for given, is_jwt, is_listed in ((jwt, True, False), (listed, False, True), ({**jwt, **listed}, True, True)):
        authenticator = authenticator_of(settings(**given))
        for each, tenant, is_let_in in ((token, "globex", is_jwt), ("s3", "t", is_listed)):
            if is_let_in:
                assert (await authenticator.authenticate(each)).tenant == tenant
            else:
                with pytest.raises(UnauthenticatedError):
                    await authenticator.authenticate(each)


def test_neither(jwt: dict[str, str]) -> None:
    """Without either, or with keys over plain HTTP from elsewhere, nothing is served."""
    with pytest.raises(ConfigurationError, match="RUNENGINE_JWT_JWKS_URL"):
        authenticator_of(settings())
    with pytest.raises(ConfigurationError, match="neither https"):
        authenticator_of(settings(**{**jwt, "jwt_jwks_url": "http://issuer.example/"}))
