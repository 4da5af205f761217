"""The public keys that an issuer publishes as a JSON Web Key Set: fetched within bounds, kept, looked up by `kid`."""

import asyncio
import ipaddress
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import aiohttp
import anyio
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from runengine_server.domain.errors import UnavailableError
from runengine_server.ports.clock import Clock

FETCH_S_MAX: Final = 2.0
BYTES_MAX: Final = 256 * 1024
KEYS_MAX: Final = 100

REFRESH_S: Final = 600.0
"""Keys this old are read again, while requests go on with them."""

REFETCH_S: Final = 30.0
"""Whoever invents key ids, and an issuer that is down, make us ask this often at most."""

RETRY_S: Final = 1.0
"""The same as long as there are no keys at all."""

_RSA_BITS_MIN: Final = 2048
_log = logging.getLogger("runengine")

Keys = Mapping[str, Key]


class JwksError(Exception):
    """The key set cannot be had or holds nothing to verify with; the message says why."""


def check_jwks_url(url: str) -> None:
    """Return when the URL is one that keys may come from.

    Raises:
        JwksError: it is neither https, nor http on this machine, nor a file.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise JwksError("is no URL") from None
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return
    if parts.username is not None or parts.password is not None:
        raise JwksError("holds a password; key sets are public")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(host))):
        raise JwksError("is neither https://…, nor http://… on this machine, nor file:///path")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def fetch_keys(url: str) -> Keys:
    """The keys at a URL that verify signatures, by their ids; all others are left out.

    Raises:
        JwksError: it does not answer within bounds, or there is no such key.
    """
    try:
        async with asyncio.timeout(FETCH_S_MAX):
            content = await (_read(url) if urlsplit(url).scheme == "file" else _get(url))
    except TimeoutError:
        raise JwksError(f"no answer within {FETCH_S_MAX:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise JwksError(f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}") from None
    if len(content) > BYTES_MAX:
        raise JwksError(f"is larger than {BYTES_MAX // 1024} KiB")
    return read_keys(content)


async def _read(url: str) -> bytes:
    async with await anyio.open_file(unquote(urlsplit(url).path), "rb") as file:
        return await file.read(BYTES_MAX + 1)


async def _get(url: str) -> bytes:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "runengine"}
    async with (
        aiohttp.ClientSession(
            connector=connector, headers=headers, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise JwksError(f"answers with status {response.status}")
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > BYTES_MAX:
                response.close()
                break
        return bytes(content)


def read_keys(content: bytes) -> Keys:
    """The keys of a JSON Web Key Set that verify signatures, by their ids; what cannot is left out.

    Raises:
        JwksError: it is no such set, or none is left.
    """
    try:
        document: object = json.loads(content)
    except (ValueError, RecursionError):
        raise JwksError("is no JSON") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise JwksError(f"is no key set: an object with `keys`, a list of at most {KEYS_MAX}")
    keys: dict[str, Key] = {}
    for item in listed:
        key = _verifying_key(item) if isinstance(item, dict) else None
        if key is not None and key.kid is not None:
            keys.setdefault(key.kid, key)
    if not keys:
        raise JwksError("holds no key that has a `kid` and verifies RS256, PS256, ES256 or EdDSA")
    return keys


def _verifying_key(item: dict[str, object]) -> Key | None:
    """The key; None for a shared secret, another use, an algorithm that is not accepted, or a mistake."""
    if not isinstance(item.get("kid"), str) or item.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    public = {name: value for name, value in item.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
    try:
        if _is_short(public):
            return None
        key = JWKRegistry.import_key(public)  # type: ignore[arg-type]
        key.check_use("sig")
        key.check_key_op("verify")
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if algorithms_of(key) else None


def _is_short(item: Mapping[str, object]) -> bool:
    """Whether it is an RSA key that could be broken; six bits a character."""
    modulus = item.get("n")
    return item["kty"] == "RSA" and (not isinstance(modulus, str) or len(modulus) * 6 < _RSA_BITS_MIN)


def algorithms_of(key: Key) -> frozenset[str]:
    """What a key may verify: what its kind can, and only that which it names."""
    match key:
        case RSAKey():
            able = frozenset({"RS256", "PS256"})
        case ECKey() if key.curve_name == "P-256":
            able = frozenset({"ES256"})
        case OKPKey() if key.curve_name == "Ed25519":
            able = frozenset({"EdDSA", "Ed25519"})
        case _:
            able = frozenset()
    return able if key.alg is None else able & {key.alg}


class Jwks:
    """An issuer's keys, as new as they have to be; callers that need them at the same time share one fetch."""

    def __init__(self, url: str, clock: Clock, fetch: Callable[[str], Awaitable[Keys]] = fetch_keys) -> None:
        """Keys of `url`; nothing is fetched yet."""
        self._url = url
        self._clock = clock
        self._fetch = fetch
        self._keys: Keys = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: str) -> Key | None:
        """The key of that id; None where the issuer has none.

        Raises:
            UnavailableError: AUTHENTICATION_UNAVAILABLE as long as no keys could be had.
        """
        found = self._keys.get(kid)
        if found is None:
            await self._refetch()
            if not self._keys:
                raise UnavailableError(
                    "AUTHENTICATION_UNAVAILABLE",
                    "the keys that tokens are verified with cannot be had at the moment; try again",
                    retry_after_s=RETRY_S,
                )
            return self._keys.get(kid)
        if self._clock.monotonic() - self._fetched_at > REFRESH_S:
            self._begin()
        return found

    async def _refetch(self) -> None:
        """Return once there is something new, or it is too early to ask."""
        fetching = self._begin()
        if fetching is not None:
            await asyncio.shield(fetching)  # others wait for it too

    def _begin(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one; None when it is too early for one."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = self._clock.monotonic()
        if now - self._tried_at < (REFETCH_S if self._keys else RETRY_S):
            return None
        self._tried_at = now
        self._fetching = asyncio.get_running_loop().create_task(self._replace())
        return self._fetching

    async def _replace(self) -> None:
        try:
            self._keys = await self._fetch(self._url)
        except JwksError as error:
            _log.warning("the key set of RUNENGINE_JWT_JWKS_URL %s", error)
        else:
            self._fetched_at = self._clock.monotonic()
