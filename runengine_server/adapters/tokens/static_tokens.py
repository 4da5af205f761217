"""Authenticates against tokens listed in a file; only their SHA-256 is kept."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runengine_server.adapters.tokens.tokens_file import TokenEntry, read_tokens_file
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import UnauthenticatedError
from runengine_server.domain.ids import Tenant

DEV_TENANT = Tenant("default")


def utc_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


def dev_token() -> str:
    """A new random token for a development server: 256 bits, recognisable by its prefix."""
    return f"runengine_dev_{secrets.token_urlsafe(32)}"


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes
    caller: Caller


class StaticTokens:
    """Implements `Authenticator` with a fixed set of tokens."""

    def __init__(self, entries: Iterable[TokenEntry], now: Callable[[], datetime] = utc_now) -> None:
        """Know these tokens; `now` is the clock they expire by."""
        self._now = now
        self._by_digest = {
            entry.token_sha256: _Known(bytes.fromhex(entry.token_sha256), entry.caller) for entry in entries
        }

    @classmethod
    def from_file(cls, path: Path, now: Callable[[], datetime] = utc_now) -> "StaticTokens":
        """Know the tokens of a file.

        Raises:
            TokensFileError: with everything that is wrong in it.
        """
        return cls(read_tokens_file(path), now)

    @classmethod
    def for_development(cls, token: str) -> "StaticTokens":
        """Know one token, with every scope, that does not expire."""
        caller = Caller(principal="dev", tenant=DEV_TENANT, scopes=frozenset(Scope))
        return cls([TokenEntry(token_sha256=hashlib.sha256(token.encode()).hexdigest(), caller=caller)])

    async def authenticate(self, token: str | None) -> Caller:
        """Who the token belongs to.

        The lookup is by the token's hash, so that its timing says nothing about the tokens.

        Raises:
            UnauthenticatedError: TOKEN_MISSING, or TOKEN_INVALID for an unknown or expired one.
        """
        if not token:
            raise UnauthenticatedError(
                "TOKEN_MISSING", "the call carries no token; send it as authorization: Bearer <token>"
            )
        digest = hashlib.sha256(token.encode(errors="surrogatepass"))
        known = self._by_digest.get(digest.hexdigest())
        if known is None or not hmac.compare_digest(known.digest, digest.digest()):
            raise UnauthenticatedError("TOKEN_INVALID", "The token is not known to this server")
        if known.caller.expires_at is not None and known.caller.expires_at <= self._now():
            raise UnauthenticatedError("TOKEN_INVALID", "The token expired")
        return known.caller
