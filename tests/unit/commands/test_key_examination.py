"""What `doctor` says of the keys that an issuer publishes."""

import pytest

from runengine_server.commands.findings import Level
from runengine_server.commands.key_examination import examine_keys

from ...support.token_issuer import key_set, new_key, token_issuer


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_keys() -> None:
    """Keys are counted by what they verify; without any, and without an answer, it is a failure with an advice."""
    keys = [new_key("a"), new_key("b"), new_key("c", "RS256")]
    with token_issuer(key_set(*keys)) as issuer:
        (found,) = await examine_keys(issuer.url)
        assert (found.level, found.found) == (Level.OK, "3 keys: 2 for ES256, 1 for PS256 or RS256")
        issuer.content = b'{"keys": []}'
        (found,) = await examine_keys(issuer.url)
        assert (found.level, bool(found.advice)) == (Level.FAILED, True)
    (found,) = await examine_keys(issuer.url)
    assert found.level is Level.FAILED
    assert found.found.startswith(f"{issuer.url}: cannot be read")
