"""Where a configuration says to listen: well-formed, not twice, not exposed, and free or ours."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from runengine_server.commands.findings import Finding, failed, warning
from runengine_server.config import Settings, variable_of
from runengine_server.rpc.bind import BindRefusedError, check_bind, is_loopback

ADVICE: Final = "write host:port, such as 127.0.0.1:3001; [::1]:3001 for IPv6, 0.0.0.0:3001 for every interface"
_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})
_NAMES_OF_LOOPBACK: Final = {"localhost": "127.0.0.1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """An address to listen on; a Unix socket has a path and no host."""

    name: str
    address: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def variable(self) -> str:
        """Where it was given."""
        return variable_of(self.name)


def addresses_of(settings: Settings, *, without: Collection[str] = ()) -> list[Listening]:
    """The addresses that can be read, of the settings not named in `without`."""
    read = [_read(name, str(getattr(settings, name))) for name in _names() if name not in without]
    return [each for each in read if each is not None]


def check_addresses(settings: Settings, *, without: Collection[str] = ()) -> Iterator[Finding]:
    """What is wrong with the addresses themselves, before anything listens."""
    listening = addresses_of(settings, without=without)
    readable = {each.name for each in listening}
    for name in _names():
        if name not in readable and name not in without:
            yield failed(variable_of(name), f"{getattr(settings, name)!r} is no address", ADVICE)
    for first, second in combinations(listening, 2):
        if _is_clash(first, second):
            found = f"{second.address} clashes with {first.variable}={first.address}"
            yield failed(second.variable, found, "give each its own port")
    for each in listening:
        yield from _exposure(each, settings)


def _exposure(each: Listening, settings: Settings) -> Iterator[Finding]:
    if each.name == "ops_address":
        if not is_loopback(each.address):
            found = f"{each.address} is reachable from other machines, and asks nobody for a token"
            yield warning(each.variable, found, "bind a private interface, or keep the port inside your network")
        return
    try:
        check_bind(
            each.address,
            has_auth=not settings.anonymous,
            has_tls=settings.tls_cert is not None,
            insecure_plaintext=settings.insecure_plaintext,
        )
    except BindRefusedError as error:
        found, _, _ = str(error).partition("; ")
        yield failed(each.variable, found, _how_to_expose(settings))


def _how_to_expose(settings: Settings) -> str:
    if settings.anonymous:
        return "set RUNENGINE_TOKENS_FILE or RUNENGINE_JWT_JWKS_URL instead of RUNENGINE_ANONYMOUS, or bind 127.0.0.1"
    return (
        "set RUNENGINE_TLS_CERT and RUNENGINE_TLS_KEY, or bind 127.0.0.1; "
        "RUNENGINE_INSECURE_PLAINTEXT=true where something in front does TLS"
    )


def _names() -> list[str]:
    return [name for name in Settings.model_fields if name.endswith("_address")]


def _read(name: str, address: str) -> Listening | None:
    if name == "grpc_address" and address.startswith("unix:"):
        path = address.removeprefix("unix:")
        return Listening(name=name, address=address, path=path) if path else None
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        return None
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return None
    return Listening(name=name, address=address, host=host.strip("[]"), port=int(port))


def _is_clash(first: Listening, second: Listening) -> bool:
    if first.path or second.path or first.port != second.port or first.port == 0:
        return False
    hosts = {_NAMES_OF_LOOPBACK.get(each.host, each.host) for each in (first, second)}
    return len(hosts) == 1 or not hosts.isdisjoint(_EVERYWHERE)
