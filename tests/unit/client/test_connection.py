"""A token never travels where others can read it."""

import pytest

from runengine_client import InvalidArgumentError, RunEngineClient, TlsOptions
from runengine_client.connection import is_loopback


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.8.8:1", True),
        ("localhost:50051", True),
        ("localhost", True),
        ("[::1]:50051", True),
        ("::1", True),
        ("dns:///localhost:50051", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        ("ipv6:[::1]:50051", True),
        ("unix:/run/engine.sock", True),
        ("10.0.0.1:50051", False),
        ("engine.example.com:443", False),
        ("localhost.example.com:443", False),
        ("dns:///127.0.0.1.example.com:1", False),
        ("dns://8.8.8.8/engine:443", False),
        ("[2001:db8::1]:50051", False),
        ("0.0.0.0:50051", False),
        ("", False),
    ],
)
def test_loopback(target, expected):
    """Only addresses of this machine count as loopback."""
    assert is_loopback(target) is expected


def test_token_over_plaintext_is_refused():
    """A token to another machine needs TLS or a word of consent."""
    with pytest.raises(InvalidArgumentError) as caught:
        RunEngineClient("engine:50051", token="secret")
    assert caught.value.reason == "INSECURE_TOKEN"
    assert "secret" not in str(caught.value)
    RunEngineClient("engine:50051", token="secret", tls=True)
    RunEngineClient("engine:50051", token="secret", tls=TlsOptions())
    RunEngineClient("engine:50051", token="secret", allow_insecure_token=True)
    RunEngineClient("127.0.0.1:50051", token="secret")
    RunEngineClient("engine:50051")
