"""What an operator may allow, and what lies below it."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runengine_server.adapters.artifacts import ArtifactRootError, parse_roots


def _holds(root: str, uri: str) -> bool:
    (parsed,) = parse_roots(root)
    return parsed.holds(urlsplit(uri))


@pytest.mark.parametrize(
    ("root", "uri"),
    [
        ("file:///srv/artifacts", "file:///srv/artifacts/a/b.wav"),
        ("file:///srv/artifacts/", "file://localhost/srv/artifacts/a%20b.wav"),
        ("https://cdn.example/a", "https://CDN.example:443/a/b.wav?v=1"),
        ("http://cdn.example:8080", "http://cdn.example:8080/b.wav"),
    ],
)
def test_what_lies_below_a_root(root: str, uri: str) -> None:
    """A URI of the same scheme, host and port whose path continues the root's may be probed."""
    assert _holds(root, uri)


@pytest.mark.parametrize(
    ("root", "uri"),
    [
        ("file:///srv/artifacts", "file:///srv/artifacts-of-others/a"),
        ("file:///srv/artifacts", "file:///srv/artifacts/../../etc/passwd"),
        ("file:///srv/artifacts", "file:///srv/artifacts/%2e%2e/%2e%2e/etc/passwd"),
        ("file:///srv/artifacts", "file://elsewhere/srv/artifacts/a"),
        ("file:///srv/artifacts", "/srv/artifacts/a"),
        ("https://cdn.example/a", "https://cdn.example/b"),
        ("https://cdn.example/a", "https://cdn.example/a/..%2fb"),
        ("https://cdn.example/a", "https://cdn.example/a\\..\\b"),
        ("https://cdn.example/a", "http://cdn.example/a/b"),
        ("https://cdn.example/a", "https://cdn.example:444/a/b"),
        ("https://cdn.example/a", "https://cdn.example@169.254.169.254/a/b"),
        ("https://cdn.example/a", "https://cdn.example.evil.example/a/b"),
        ("https://cdn.example/a", "https://cdn.example:port/a/b"),
        ("https://cdn.example/a", "s3://cdn.example/a/b"),
    ],
)
def test_what_does_not(root: str, uri: str) -> None:
    """Another scheme, host, port or path, a password, and dots in whatever disguise keep a URI out."""
    assert not _holds(root, uri)


@pytest.mark.parametrize(
    "text",
    [
        "/srv",
        "file://host/srv",
        "file:///",
        "s3://bucket/a",
        "https://u:p@h/a",
        "https://h/a?b=1",
        "https://",
        "ftp://h/",
    ],
)
def test_what_is_no_root(text: str) -> None:
    """A root is a directory by its URI, or a place on a server that needs no password."""
    with pytest.raises(ArtifactRootError, match="no root"):
        parse_roots(f"https://cdn.example/a, {text}")


def test_no_roots() -> None:
    """Nothing is configured by default."""
    assert parse_roots(" ") == ()


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    """A link below the root that leads out of it is not followed; one that stays inside is."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to("/etc")
    (root / "in").symlink_to(root / "there")
    (parsed,) = parse_roots(root.as_uri())
    assert parsed.file_of(urlsplit(f"{root.as_uri()}/out/passwd")) is None
    assert parsed.file_of(urlsplit(f"{root.as_uri()}/in")) == root / "there"
