"""Authenticates against JSON Web Tokens of one issuer, verified with the keys that it publishes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, MissingClaimError
from joserfc.jwa import JWSAlgModel
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry

from runengine_server.adapters.tokens.jwks import Jwks, algorithms_of
from runengine_server.adapters.tokens.static_tokens import utc_now
from runengine_server.adapters.tokens.tokens_file import PRINCIPAL_CHARS_MAX, TENANT
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import UnauthenticatedError
from runengine_server.domain.ids import Tenant
from runengine_server.ports.authenticator import Authenticator

ALGORITHMS: Final = frozenset({"RS256", "PS256", "ES256", "EdDSA", "Ed25519"})
"""Signatures that only the issuer can make; never `none`, never one by a secret that verifies as well as signs."""

LEEWAY_S: Final = 30
"""So far ahead an issuer's clock may be; a token ends at its `exp` all the same."""

CHARS_MAX: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtRules:
    """What tokens must say, and where they say who calls.

    Attributes:
        issuer: `iss`, letter by letter.
        audience: `aud`, or one of them.
        tenant_claim: names the tenant.
        scope_claim: the scopes, as text between blanks or as a list.
    """

    issuer: str
    audience: str
    tenant_claim: str = "tenant"
    scope_claim: str = "scope"


class JwtTokens:
    """Implements `Authenticator` with JSON Web Tokens; `otherwise` knows tokens of another form."""

    def __init__(
        self,
        rules: JwtRules,
        keys: Jwks,
        now: Callable[[], datetime] = utc_now,
        otherwise: Authenticator | None = None,
    ) -> None:
        """Accept what follows the rules and is signed with the keys; `now` is the clock that tokens expire by."""
        self._rules = rules
        self._keys = keys
        self._now = now
        self._otherwise = otherwise
        self._claims = JWTClaimsRegistry(
            now=lambda: int(now().timestamp()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.audience},
            sub={"essential": True},
            exp={"essential": True},
        )

    async def authenticate(self, token: str | None) -> Caller:
        """See the port.

        Raises:
            UnauthenticatedError: TOKEN_MISSING or TOKEN_INVALID.
            UnavailableError: AUTHENTICATION_UNAVAILABLE, as long as no keys could be had.
        """
        if not token:
            raise UnauthenticatedError(
                "TOKEN_MISSING", "the call carries no token; send it as authorization: Bearer <token>"
            )
        signed = _signed(token)
        if signed is None:
            if self._otherwise is not None:
                return await self._otherwise.authenticate(token)
            raise _invalid("is no JSON Web Token")
        await self._verify(signed)
        return self._caller(_claims(signed.payload))

    async def _verify(self, signed: CompactSignature) -> None:
        """Return when the issuer has signed it."""
        header = signed.headers()
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _invalid(f"is not signed with one of {', '.join(sorted(ALGORITHMS))}")
        if not isinstance(kid, str):
            raise _invalid("does not name its key: its header needs `kid`")
        key = await self._keys.key(kid)
        if key is None:
            raise _invalid("is signed with a key that the issuer does not publish")
        if algorithm not in algorithms_of(key):
            raise _invalid("is signed with another algorithm than its key is for")
        try:
            is_valid = validate_compact(signed, key, registry=_REGISTRY)
        except (JoseError, ValueError, TypeError):
            raise _invalid("has a header that cannot be used") from None
        if not is_valid:
            raise _invalid("has a wrong signature")

    def _caller(self, claims: dict[str, object]) -> Caller:
        try:
            self._claims.validate(claims)
        except MissingClaimError as error:
            raise _invalid(f"lacks {error.claim}") from None
        except ExpiredTokenError:
            raise _invalid("expired") from None
        except ClaimError as error:
            raise _invalid(_WRONG.get(error.claim, f"has a wrong {error.claim}")) from None
        expires_at = _moment(claims["exp"])
        if expires_at <= self._now():
            raise _invalid("expired")
        return Caller(
            principal=_principal(claims["sub"]),
            tenant=self._tenant(claims),
            scopes=self._scopes(claims.get(self._rules.scope_claim)),
            expires_at=expires_at,
        )

    def _tenant(self, claims: Mapping[str, object]) -> Tenant:
        name = self._rules.tenant_claim
        value = claims.get(name)
        if not isinstance(value, str) or not TENANT.fullmatch(value):
            raise _invalid(f"names no tenant: its claim {name} must match {TENANT.pattern}")
        return Tenant(value)

    def _scopes(self, value: object) -> frozenset[Scope]:
        """Those we know; an issuer's tokens may be for other services too."""
        named = value.split() if isinstance(value, str) else value or []
        if not isinstance(named, list):
            raise _invalid(f"has a wrong {self._rules.scope_claim}: text or a list is expected")
        return frozenset(scope for scope in Scope if scope.value in named)


class _PinnedRegistry(JWSRegistry):
    """Knows the accepted algorithms only, and takes EdDSA by the name that issuers still use without a warning."""

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in ALGORITHMS:
            raise ValueError("the algorithm has been looked at before")
        return self.algorithms[name]


_REGISTRY: Final = _PinnedRegistry(strict_check_header=False)

_WRONG: Final = {
    "iss": "is of another issuer",
    "aud": "is for another audience",
    "nbf": "is not valid yet",
    "iat": "was issued in the future",
}


def _signed(token: str) -> CompactSignature | None:
    """The parts of a JSON Web Token; None for a token of another form."""
    if len(token) > CHARS_MAX or token.count(".") != 2 or not token.isascii():
        return None
    try:
        signed = extract_compact(token.encode(), registry=_REGISTRY)
    except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
        return None  # the library takes it for granted that a header is an object
    return signed if isinstance(signed.protected, dict) else None


def _claims(payload: bytes) -> dict[str, object]:
    try:
        claims: object = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise _invalid("holds no claims")
    return claims


def _principal(subject: object) -> str:
    if not isinstance(subject, str) or not subject.strip() or len(subject) > PRINCIPAL_CHARS_MAX:
        raise _invalid(f"has a wrong sub: 1 to {PRINCIPAL_CHARS_MAX} characters are expected")
    return subject


def _moment(seconds: object) -> datetime:
    try:
        return datetime.fromtimestamp(float(seconds), UTC)  # type: ignore[arg-type]
    except (ValueError, OverflowError, OSError):
        raise _invalid("has a wrong exp") from None


def _invalid(problem: str) -> UnauthenticatedError:
    return UnauthenticatedError("TOKEN_INVALID", f"the token {problem}")
