"""Property: the sort key of a version orders exactly like the precedence rules of semver.org, read literally."""

from functools import cmp_to_key

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runengine_server.domain.semver import VERSION_CHARS_MAX, parse_semver, version_order

NUMBERS = st.one_of(st.integers(0, 30), st.integers(0, 10**12)).map(str)
TEXTS = st.from_regex(r"\A[0-9]{0,2}[a-zA-Z-][0-9a-zA-Z-]{0,4}\Z")
PRE_RELEASES = st.lists(st.one_of(NUMBERS, TEXTS), max_size=4)
BUILDS = st.lists(st.from_regex(r"\A[0-9a-zA-Z-]{1,4}\Z"), max_size=2)


@st.composite
def versions(draw: st.DrawFn) -> str:
    """Any version; small parts so that pairs often agree in front."""
    text = ".".join(draw(NUMBERS) for _ in range(3)) if draw(st.booleans()) else "1.0.0"
    pre_release, build = draw(PRE_RELEASES), draw(BUILDS)
    return text + ("-" + ".".join(pre_release) if pre_release else "") + ("+" + ".".join(build) if build else "")


def literal_precedence(left: str, right: str) -> int:
    """Semver.org §11, rule by rule."""
    ours, theirs = (text.split("+")[0].partition("-") for text in (left, right))
    for a, b in zip(ours[0].split("."), theirs[0].split("."), strict=True):
        if int(a) != int(b):
            return -1 if int(a) < int(b) else 1
    if not ours[2] or not theirs[2]:
        return bool(theirs[2]) - bool(ours[2])
    for a, b in zip(ours[2].split("."), theirs[2].split("."), strict=False):
        if a == b:
            continue
        if a.isdigit() and b.isdigit():
            return -1 if int(a) < int(b) else 1
        if a.isdigit() != b.isdigit():
            return -1 if a.isdigit() else 1
        return -1 if a < b else 1
    lengths = len(ours[2].split(".")), len(theirs[2].split("."))
    return (lengths[0] > lengths[1]) - (lengths[0] < lengths[1])


@given(versions(), versions())
@example("1.0.0-a", "1.0.0-a.0")
@example("1.0.0-a-b", "1.0.0-a")
@example("1.0.0-a.b", "1.0.0-a-b")
@example("1.0.0-9", "1.0.0-10")
def test_order_agrees_with_precedence(left: str, right: str) -> None:
    """The bytes of two keys compare as the versions' precedence, and the keys are ASCII."""
    ours, theirs = version_order(left).encode("ascii"), version_order(right).encode("ascii")
    assert (ours > theirs) - (ours < theirs) == literal_precedence(left, right)


@given(versions())
def test_text_survives_parsing(text: str) -> None:
    """A parsed version prints as it was written."""
    assert str(parse_semver(text)) == text


def test_the_example_of_the_standard() -> None:
    """The chain in semver.org §11 sorts as it is written there."""
    pre_releases = ["alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1"]
    chain = [*(f"1.0.0-{text}" for text in pre_releases), "1.0.0"]
    shuffled = sorted(chain, key=len)
    assert sorted(shuffled, key=version_order) == chain
    assert sorted(shuffled, key=cmp_to_key(literal_precedence)) == chain


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3-a..b", "v1.2.3", "1.2.3\n", " 1.2.3", "1.2.3+",
     "1.2.3-ä", "١.0.0", "1.0.0-" + "a" * VERSION_CHARS_MAX],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    """What the standard does not call a version, and what is too long, is refused."""
    with pytest.raises(ValueError, match="SemVer"):
        parse_semver(text)
