"""Watch tokens: only what these keys signed, as it was signed, and only until it expires."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import pytest

from runengine_server.adapters.tokens.watch_tokens import KEYS_S, SignedWatchTokens
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import ScopeRequiredError, UnauthenticatedError
from runengine_server.domain.ids import RunId, Tenant
from runengine_server.ports.watch_tokens import SigningKey, WatchGrant
from runengine_server.service.authorization import require

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RUN_ID = RunId("550e8400-e29b-41d4-a716-446655440000")
GRANT = WatchGrant(run_id=RUN_ID, tenant=Tenant("acme"), principal="Zoë.x", expires_at=NOW + timedelta(minutes=15))


class Keys:
    """Signing keys that a test changes."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = list(keys) or [SigningKey(number=1, secret=b"1" * 32)]
        self.reads = 0

    async def read(self) -> list[SigningKey]:
        self.reads += 1
        return self.keys


class Clock:
    """Moves when told."""

    at = 0.0
    date = NOW

    def now(self) -> datetime:
        return self.date

    def monotonic(self) -> float:
        return self.at


def tokens(keys: Keys, clock: Clock | None = None) -> SignedWatchTokens:
    clock = clock or Clock()
    return SignedWatchTokens(keys, clock, clock.now)


async def refused(reader: SignedWatchTokens, token: str) -> bool:
    try:
        await reader.read(token)
    except UnauthenticatedError as error:
        assert error.reason == "TOKEN_INVALID"
        assert len(token) < 20 or token not in error.message
        return True
    return False


async def test_any_engine_with_the_keys_reads_what_another_signed() -> None:
    """A token says what was signed; another engine needs the same keys and nothing else."""
    token = await tokens(Keys()).sign(GRANT)
    assert await tokens(Keys()).read(token) == GRANT
    assert len(token) <= 2_048
    assert token.replace(".", "").replace("_", "").replace("-", "").isalnum(), "it goes into URLs as it is"


async def test_a_long_principal_fits() -> None:
    """The longest principal and tenant that a tokens file may hold make a token within its bound."""
    grant = WatchGrant(run_id=RUN_ID, tenant=Tenant("t" * 64), principal="𝄞" * 256, expires_at=NOW + timedelta(hours=1))
    token = await tokens(Keys()).sign(grant)
    assert len(token) <= 2_048
    assert await tokens(Keys()).read(token) == grant


async def test_every_character_counts() -> None:
    """A token with any one character changed, left out or added is none."""
    reader = tokens(Keys())
    token = await reader.sign(GRANT)
    for place, sign in enumerate(token):
        other = "A" if sign != "A" else "B"
        assert await refused(reader, token[:place] + other + token[place + 1 :]), place
        assert await refused(reader, token[:place] + token[place + 1 :]), place
    for text in ("", ".", "...", "rew1.1..", f"{token}=", f" {token}", f"{token}\n", "é" * 20, token * 20, token[:-1]):
        assert await refused(reader, text), text


async def test_claims_of_one_token_with_the_signature_of_another() -> None:
    """Facts are signed together: they cannot be taken from another token, nor signed with no key."""
    reader = tokens(Keys())
    mine = await reader.sign(GRANT)
    other = await reader.sign(WatchGrant(**{**_fields(GRANT), "run_id": RunId("0" * 36)}))
    head, number, _, signature = mine.split(".")
    assert await refused(reader, ".".join([head, number, other.split(".")[2], signature]))
    assert await refused(reader, ".".join([head, number, mine.split(".")[2], ""]))
    forged = urlsafe_b64encode(b'["x","acme","p",9999999999]').decode().rstrip("=")
    assert await refused(reader, ".".join([head, number, forged, signature]))


async def test_it_expires_to_the_second() -> None:
    """A token opens up to its last second, and nothing at it."""
    clock = Clock()
    reader = tokens(Keys(), clock)
    token = await reader.sign(GRANT)
    clock.date = GRANT.expires_at - timedelta(seconds=1)
    assert await reader.read(token) == GRANT
    clock.date = GRANT.expires_at
    assert await refused(reader, token)


async def test_a_new_key_signs_and_the_one_before_still_opens() -> None:
    """After a rotation, tokens of both keys are good on every engine; one of a key that went is not."""
    keys, clock = Keys(SigningKey(number=1, secret=b"1" * 32)), Clock()
    reader = tokens(keys, clock)
    first = await reader.sign(GRANT)
    keys.keys = [SigningKey(number=2, secret=b"2" * 32), *keys.keys]
    second = await tokens(keys).sign(GRANT)
    assert second.startswith("rew1.2.")
    clock.at = 2.0
    assert await reader.read(second) == GRANT, "an unknown key is looked up"
    assert await reader.read(first) == GRANT
    keys.keys = keys.keys[:1]
    clock.at += KEYS_S + 1
    assert await refused(reader, first)


async def test_invented_keys_do_not_make_it_read_keys_each_time() -> None:
    """Whoever sends tokens of unknown keys causes at most one look a second."""
    keys, clock = Keys(), Clock()
    reader = tokens(keys, clock)
    token = await reader.sign(GRANT)
    clock.at = 5.0
    for number in range(50):
        assert await refused(reader, token.replace("rew1.1.", f"rew1.{number + 2}."))
    assert keys.reads == 2


def test_a_key_does_not_show_its_secret() -> None:
    """What may end up in a log or a traceback has no secret in it."""
    assert "1111" not in repr(SigningKey(number=1, secret=b"1" * 32))


def test_nothing_but_its_own_run() -> None:
    """A credential for one run is refused by whatever does not say that it reads just that run."""
    caller = Caller(principal="watch:p", tenant=Tenant("acme"), scopes=frozenset({Scope.RUN_READ}), only_run=RUN_ID)
    require(caller, Scope.RUN_READ, run_id=RUN_ID)
    require(caller, Scope.RUN_READ, run_id=RUN_ID.upper())
    for run_id in (None, "", "nonsense", "550e8400-e29b-41d4-a716-446655440001"):
        with pytest.raises(ScopeRequiredError, match="its own run"):
            require(caller, Scope.RUN_READ, run_id=run_id)
    with pytest.raises(ScopeRequiredError):
        require(caller, Scope.RUN_WRITE, run_id=RUN_ID)


def _fields(grant: WatchGrant) -> dict[str, object]:
    return {name: getattr(grant, name) for name in grant.__dataclass_fields__}
