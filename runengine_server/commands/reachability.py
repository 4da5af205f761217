"""Whether anything listens at an address, and why not in words that say what to look at."""

import os
import socket
from typing import Final
from urllib.parse import urlsplit

import anyio

CONNECT_S_MAX: Final = 3.0
_PORTS: Final = {"http": 80, "https": 443}


class UnreachableError(Exception):
    """Nothing answers there; the message says at which point it fails."""


async def require_reachable(address: str) -> None:
    """Something accepts connections at `host:port`, `unix:/path`, `http://host[:port]/…` or the same with https.

    Raises:
        UnreachableError: it does not.
    """
    try:
        with anyio.fail_after(CONNECT_S_MAX):
            stream = await _connect(address)
    except TimeoutError:
        raise UnreachableError(f"no answer within {CONNECT_S_MAX:g} s: a firewall, or the wrong address") from None
    except socket.gaierror as error:
        host = _host_and_port(address)[0]
        raise UnreachableError(f"the name {host} cannot be resolved: {error.strerror}") from None
    except OSError as error:
        raise UnreachableError(f"cannot connect: {_reason(error)}") from None
    await stream.aclose()


async def _connect(address: str) -> anyio.abc.ByteStream:
    if address.startswith("unix:"):
        return await anyio.connect_unix(address.removeprefix("unix:"))
    host, port = _host_and_port(address)
    return await anyio.connect_tcp(host, port, happy_eyeballs_delay=0.1)


def _host_and_port(address: str) -> tuple[str, int]:
    parts = urlsplit(address if "://" in address else f"//{address}")
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _reason(error: OSError) -> str:
    """The words of the system, which anyio may have wrapped."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    found = cause if isinstance(cause, OSError) else error
    return os.strerror(found.errno) if found.errno else str(found) or type(found).__name__
