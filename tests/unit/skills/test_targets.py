"""Reading the operator's target map."""

import pytest

from runengine_server.adapters.skills.targets import (
    Endpoint,
    SkillTarget,
    TargetError,
    Transport,
    parse_targets,
    parse_tokens,
)


def test_map_is_read_in_order() -> None:
    """Commas and line breaks separate entries; every form of endpoint is understood."""
    targets = parse_targets(
        "image.*=grpc://127.0.0.1:7001, audio.mix=grpcs://skills.example:443\nlocal.*=local:,*=unix:/run/s"
    )
    assert targets == (
        SkillTarget(pattern="image.*", endpoint=Endpoint(transport=Transport.PLAINTEXT, address="127.0.0.1:7001")),
        SkillTarget(pattern="audio.mix", endpoint=Endpoint(transport=Transport.TLS, address="skills.example:443")),
        SkillTarget(pattern="local.*", endpoint=Endpoint(transport=Transport.LOCAL)),
        SkillTarget(pattern="*", endpoint=Endpoint(transport=Transport.UNIX, address="unix:/run/s")),
    )


def test_http_endpoints_have_one_form() -> None:
    """A base URL is kept with its port and without a trailing slash, so that one target is one pool."""
    targets = parse_targets("a=http://h/,b=http://h:80,c=https://h/api/skills/,d=http://[::1]:7005/x")
    assert [target.endpoint.address for target in targets] == [
        "http://h:80", "http://h:80", "https://h:443/api/skills", "http://[::1]:7005/x",
    ]  # fmt: skip
    assert [target.endpoint.is_on_this_machine for target in targets] == [False, False, False, True]


def test_empty_map_has_no_targets() -> None:
    """No text is no target, and not an error."""
    assert parse_targets(" \n ") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image.*", "pattern=endpoint"),
        ("Image.*=local:", "a pattern is"),
        ("im*ge=local:", "a pattern is"),
        ("*=ftp://h:1", "an endpoint is"),
        ("*=http://u:p@h/skills", "port"),
        ("*=http://h:0/skills", "port"),
        ("*=http://h/a?b", "plain"),
        ("*=http://h/a/../b//c", "plain"),
        ("*=https:///skills", "host"),
        ("*=grpc://h", "port"),
        ("*=grpc://h:0", "port"),
        ("*=grpc://h:99999", "port"),
        ("*=grpc://:7001", "host"),
        ("*=grpc://u:p@h:1", "host"),
        ("*=grpc://[::g]:1", "IPv6"),
        ("*=unix:relative", "absolute"),
        ("*=local:,*=grpc://h:1", "twice"),
        (",".join(f"s{number}=grpc://h:{number + 1}" for number in range(65)), "at most 64"),
    ],
)
def test_wrong_map_says_what_is_wrong(text: str, words: str) -> None:
    """Each mistake is named precisely."""
    with pytest.raises(TargetError, match=words):
        parse_targets(text)


def test_all_mistakes_are_reported_at_once() -> None:
    """A map with two mistakes names both entries."""
    with pytest.raises(TargetError) as problem:
        parse_targets("a=b,*=local:,c=grpc://h")
    assert "entry 1" in str(problem.value) and "entry 3" in str(problem.value)


def test_tokens_belong_to_endpoints() -> None:
    """Tokens are found by endpoint; one may contain the equals sign."""
    tokens = parse_tokens("grpc://127.0.0.1:7001=s3cret==,grpcs://h:443=t")
    assert tokens == {
        Endpoint(transport=Transport.PLAINTEXT, address="127.0.0.1:7001"): "s3cret==",
        Endpoint(transport=Transport.TLS, address="h:443"): "t",
    }


@pytest.mark.parametrize(
    "text", ["grpc://10.0.0.1:1=s3cret", "http://10.0.0.1/x=s3cret", "grpc://h=s3cret", "nonsense:s3cret"]
)
def test_token_errors_hide_the_token(text: str) -> None:
    """A token that may not be used is refused without being quoted."""
    with pytest.raises(TargetError) as problem:
        parse_tokens(text)
    assert "s3cret" not in str(problem.value)
