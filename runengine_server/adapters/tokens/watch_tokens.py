"""Watch tokens that carry what they grant, signed with HMAC-SHA-256; nothing is stored for any of them."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from runengine_server.adapters.tokens.static_tokens import utc_now
from runengine_server.domain.errors import UnauthenticatedError
from runengine_server.domain.ids import RunId, Tenant
from runengine_server.ports.clock import Clock
from runengine_server.ports.watch_tokens import SigningKey, SigningKeys, WatchGrant

_PREFIX = "rew1"
"""Tells people, and scanners of leaked secrets, what it is; a change of the form below takes the next number."""

_CHARS_MAX = 2_048

KEYS_S = 60.0
"""So long keys are used before they are read again: within it a key that was removed signs and opens nothing more."""

_UNKNOWN_KEY_S = 1.0
"""A key that is not known may be another engine's new one; whoever invents numbers makes us look this often at most."""


class SignedWatchTokens:
    """WatchTokens on shared keys."""

    def __init__(self, keys: SigningKeys, clock: Clock, now: Callable[[], datetime] = utc_now) -> None:
        """Sign with `keys`; `clock` says when to read them again, `now` is the wall clock that tokens expire by."""
        self._source = keys
        self._clock = clock
        self._now = now
        self._keys: Sequence[SigningKey] = ()
        self._read_at = float("-inf")

    async def sign(self, grant: WatchGrant) -> str:
        """See the port."""
        key = (await self._recent_keys(KEYS_S))[0]
        facts = [grant.run_id, grant.tenant, grant.principal, int(grant.expires_at.timestamp())]
        signed = f"{_PREFIX}.{key.number}.{_encode(json.dumps(facts, ensure_ascii=False).encode())}"
        return f"{signed}.{_encode(_signature(key, signed))}"

    async def read(self, token: str) -> WatchGrant:
        """See the port."""
        signed, _, signature = token.rpartition(".")
        prefix, _, rest = signed.partition(".")
        number, _, facts = rest.partition(".")
        is_ours = prefix == _PREFIX and len(token) <= _CHARS_MAX and token.isascii() and number.isdecimal()
        key = await self._key(int(number)) if is_ours and len(number) < 10 else None
        if key is None or not hmac.compare_digest(_encode(_signature(key, signed)), signature):
            raise UnauthenticatedError("TOKEN_INVALID", "the access_token is not a watch token of this server")
        grant = _grant(_decode(facts))
        if grant.expires_at <= self._now():
            raise UnauthenticatedError("TOKEN_INVALID", "the watch token expired; ask for another one")
        return grant

    async def _key(self, number: int) -> SigningKey | None:
        for age_s in (KEYS_S, _UNKNOWN_KEY_S):
            for key in await self._recent_keys(age_s):
                if key.number == number:
                    return key
        return None

    async def _recent_keys(self, age_s: float) -> Sequence[SigningKey]:
        if self._clock.monotonic() - self._read_at > age_s:
            self._keys = await self._source.read()
            self._read_at = self._clock.monotonic()
        return self._keys


def _grant(facts: bytes) -> WatchGrant:
    """What a signed text says; we wrote it."""
    run_id, tenant, principal, expires_at = json.loads(facts)
    return WatchGrant(
        run_id=RunId(run_id),
        tenant=Tenant(tenant),
        principal=principal,
        expires_at=datetime.fromtimestamp(expires_at, UTC),
    )


def _signature(key: SigningKey, signed: str) -> bytes:
    return hmac.digest(key.secret, signed.encode(), hashlib.sha256)


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
