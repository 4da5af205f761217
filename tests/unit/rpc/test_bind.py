"""Which addresses need authentication and TLS."""

import pytest

from runengine_server.rpc.bind import BindRefusedError, check_bind

LOOPBACK = ["127.0.0.1:50051", "127.8.8.8:1", "[::1]:50051", "localhost:0", "unix:/run/x.sock", "unix:x.sock"]
NETWORK = ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:1", "runengine.example:443", ":50051", "localhost.example:1", ""]


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_needs_nothing(address: str) -> None:
    """What only this machine reaches may be served anonymously and in clear text."""
    check_bind(address, has_auth=False, has_tls=False, insecure_plaintext=False)


@pytest.mark.parametrize("address", NETWORK)
def test_the_network_needs_authentication(address: str) -> None:
    """Beyond loopback anonymous access is refused, whatever else is set; what cannot be told apart counts as beyond."""
    with pytest.raises(BindRefusedError, match="no authentication"):
        check_bind(address, has_auth=False, has_tls=True, insecure_plaintext=True)


@pytest.mark.parametrize("address", NETWORK)
def test_the_network_needs_tls_or_a_word(address: str) -> None:
    """Beyond loopback clear text is refused unless the operator says insecure_plaintext."""
    with pytest.raises(BindRefusedError, match="insecure_plaintext"):
        check_bind(address, has_auth=True, has_tls=False, insecure_plaintext=False)
    check_bind(address, has_auth=True, has_tls=False, insecure_plaintext=True)
    check_bind(address, has_auth=True, has_tls=True, insecure_plaintext=False)
