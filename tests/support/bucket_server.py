"""A server that speaks S3, in this process, with one bucket in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "artifacts"


@contextmanager
def bucket_server() -> Iterator[str]:
    """The server's URL; what it holds is gone afterwards."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        url = f"http://127.0.0.1:{port}"
        httpx.put(f"{url}/{BUCKET}").raise_for_status()
        yield url
    finally:
        server.stop()


def bucket_environment(url: str) -> dict[str, str]:
    """What an operator sets so that this server is the one."""
    return {
        "AWS_ENDPOINT": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def use_bucket_server(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """This process's stores are on that server; the URL of one."""
    for name, value in bucket_environment(url).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/some/prefix"
