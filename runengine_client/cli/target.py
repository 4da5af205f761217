"""What is wrong with the server's address, in words: what can never be one, and why nobody answers there."""

import re

from runengine_client.errors import InvalidArgumentError, RunEngineError, UnavailableError

OPTION = "--target or RUNENGINE_TARGET"

_GRPC_SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds")
"""What they lead to, gRPC alone knows."""

_HOST_AND_PORT = re.compile(r"(?:\[[\w:.%]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_HOST = re.compile(r"([\w-]*[A-Za-z.-][\w.-]*)(?=[:/]|$)")
_SILENT_NAME_SERVERS = ("DNS query cancelled", "Timeout while contacting", "Temporary failure in name resolution")
_PORT_DEFAULT = 50051
_PORT_MAX = 65_535


def check_target(target: str) -> None:
    """Return when the target can be a gRPC address.

    gRPC itself takes anything: it looks a URL up as a host's name, and goes to port 34463 for 99999.

    Raises:
        InvalidArgumentError: USAGE: it never can; with what to write.
    """
    if target.partition(":")[0] in _GRPC_SCHEMES:
        return
    found = _HOST_AND_PORT.fullmatch(target)
    if found is not None and 0 < int(found[1]) <= _PORT_MAX:
        return
    raise InvalidArgumentError(
        "USAGE", f"{target!r} is no gRPC address; write host:port in {OPTION}, such as {_suggestion(target)}"
    )


def explained(error: RunEngineError, target: str) -> UnavailableError:
    """The error of a call that found no server at the target, with what to do in place of gRPC's own words."""
    return UnavailableError(error.reason, _why(error.message, target))


def _suggestion(target: str) -> str:
    """An address like what was meant, as far as that can be told."""
    host = _HOST.match(target.rpartition("://")[2])
    return f"{host[1] if host is not None else '127.0.0.1'}:{_PORT_DEFAULT}"


def _why(words: str, target: str) -> str:
    """A sentence for gRPC's words; those that are not known stay."""
    is_refused = words.startswith("failed to connect")
    if words.startswith("errors resolving"):
        if any(sign in words for sign in _SILENT_NAME_SERVERS):
            return (
                f"no name server answers for the host of {target}; check the network, or name an IP address in {OPTION}"
            )
        return f"the host of {target} cannot be found; check the name in {OPTION}"
    if "handshake failed" in words:
        return f"no TLS with {target}: leave --tls out if the server has none, or name whom to trust with --tls-ca"
    if is_refused and any(sign in words for sign in ("SETTINGS", "Socket closed", "reset by peer")):
        port = f"the server's gRPC port, {_PORT_DEFAULT} if nobody changed it,"
        return f"what listens at {target} speaks no gRPC; name {port} in {OPTION}, or add --tls if it wants TLS"
    if is_refused:
        return f"nothing answers at {target}; start the server, or name its gRPC address in {OPTION}"
    return f"no connection to {target}: {words}"
