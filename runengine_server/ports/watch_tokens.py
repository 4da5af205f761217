"""Tokens that read one run: who they stand for, and how they are signed and read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from runengine_server.domain.ids import RunId, Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchGrant:
    """What a watch token says: its bearer may read this run of this tenant until then, to the second.

    Attributes:
        run_id: the one run.
        tenant: whose run it is.
        principal: who asked for the token.
        expires_at: aware UTC, whole seconds.
    """

    run_id: RunId
    tenant: Tenant
    principal: str
    expires_at: datetime


class WatchTokens(Protocol):
    """Signs grants and reads what was signed, also by other engines on the same database."""

    async def sign(self, grant: WatchGrant) -> str:
        """A token that says this; URL-safe, at most 2,048 characters.

        Raises:
            UnavailableError: DATABASE_UNAVAILABLE, where no key is at hand.
        """

    async def read(self, token: str) -> WatchGrant:
        """What a token says.

        Raises:
            UnauthenticatedError: TOKEN_INVALID, for one that is not ours or has expired.
            UnavailableError: DATABASE_UNAVAILABLE, where its key is not at hand.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A secret of 32 bytes and the number that tokens name it by."""

    number: int
    secret: bytes = field(repr=False)


class SigningKeys(Protocol):
    """The keys that all engines on a database share."""

    async def read(self) -> Sequence[SigningKey]:
        """The keys that count, newest first; at least one. A new one is made where the newest is too old.

        Raises:
            UnavailableError: DATABASE_UNAVAILABLE.
        """
