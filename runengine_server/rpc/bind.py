"""Decides whether an address may be served without authentication or TLS."""

import ipaddress

_HOSTS_LOOPBACK = frozenset({"localhost", "ip6-localhost"})


class BindRefusedError(ValueError):
    """The configuration would expose the server; the message says which setting to change."""


def check_bind(address: str, *, has_auth: bool, has_tls: bool, insecure_plaintext: bool) -> None:
    """Return when the address may be served like this; loopback and Unix sockets always may.

    Args:
        address: `host:port` or `unix:/path`.
        has_auth: whether callers need a credential.
        has_tls: whether the connection is encrypted.
        insecure_plaintext: whether the operator accepts clear text on the network.

    Raises:
        BindRefusedError: beyond loopback without authentication, or without TLS and without saying so.
    """
    if is_loopback(address):
        return
    if not has_auth:
        raise BindRefusedError(
            f"{address} is reachable from other machines and no authentication is configured; "
            "configure a tokens file or an issuer of tokens, or bind 127.0.0.1"
        )
    if not has_tls and not insecure_plaintext:
        raise BindRefusedError(
            f"{address} is reachable from other machines and tokens would cross the network in clear text; "
            "configure a TLS certificate and key, bind 127.0.0.1, or accept it with insecure_plaintext"
        )


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach the address; a name other than localhost counts as reachable."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host in _HOSTS_LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
