"""Where a configuration says to listen: not twice, not exposed, and free or ours."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from runengine_server.commands.findings import Finding, failed, warning
from runengine_server.config import Settings, host_and_port, variable_of
from runengine_server.rpc.bind import BindRefusedError, check_bind, is_loopback

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
    """The addresses, of the settings not named in `without`."""
    names = [name for name in Settings.model_fields if name.endswith("_address") and name not in without]
    return [_listening(name, getattr(settings, name)) for name in names]


def check_addresses(settings: Settings, *, without: Collection[str] = ()) -> Iterator[Finding]:
    """What is wrong with addresses that are well-formed, before anything listens."""
    listening = addresses_of(settings, without=without)
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


def _listening(name: str, address: str) -> Listening:
    if address.startswith("unix:"):
        return Listening(name=name, address=address, path=address.removeprefix("unix:"))
    host, port = host_and_port(address)
    return Listening(name=name, address=address, host=host, port=port)


def _is_clash(first: Listening, second: Listening) -> bool:
    if first.path or second.path or first.port != second.port or first.port == 0:
        return False
    hosts = {_NAMES_OF_LOOPBACK.get(each.host, each.host) for each in (first, second)}
    return len(hosts) == 1 or not hosts.isdisjoint(_EVERYWHERE)
