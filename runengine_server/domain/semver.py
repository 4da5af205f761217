"""Semantic versions: which texts are one, and a sort key whose byte order is their precedence.

Source: Semantic Versioning 2.0.0, https://semver.org (§2, §9 to §11 and the regular expression of its FAQ).
"""

import re
from dataclasses import dataclass

VERSION_CHARS_MAX = 128

_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRE_RELEASE = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION = re.compile(
    rf"(?P<core>{_NUMBER}\.{_NUMBER}\.{_NUMBER})"
    rf"(?:-(?P<pre_release>{_PRE_RELEASE}(?:\.{_PRE_RELEASE})*))?"
    r"(?:\+(?P<build>[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)

# In the sort key: '!' is below and '~' above every character an identifier can have, digits are below letters.
_END_OF_TEXT = "!"
_RELEASE = "~"
_NUMERIC, _TEXTUAL = "0", "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SemVer:
    """A parsed version; `build` says nothing about precedence."""

    major: int
    minor: int
    patch: int
    pre_release: tuple[str, ...] = ()
    build: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The text it was parsed from."""
        text = f"{self.major}.{self.minor}.{self.patch}"
        if self.pre_release:
            text += "-" + ".".join(self.pre_release)
        return text + ("+" + ".".join(self.build) if self.build else "")


def parse_semver(text: str) -> SemVer:
    """Return the parsed version.

    Raises:
        ValueError: the text is not a version of Semantic Versioning 2.0.0, or longer than `VERSION_CHARS_MAX`.
    """
    match = _VERSION.fullmatch(text) if len(text) <= VERSION_CHARS_MAX else None
    if match is None:
        raise ValueError(f"not a SemVer version of at most {VERSION_CHARS_MAX} characters, such as 1.4.0 or 2.0.0-rc.1")
    major, minor, patch = (int(number) for number in match["core"].split("."))
    return SemVer(
        major=major,
        minor=minor,
        patch=patch,
        pre_release=tuple(match["pre_release"].split(".")) if match["pre_release"] else (),
        build=tuple(match["build"].split(".")) if match["build"] else (),
    )


def version_order(version: str) -> str:
    """Return an ASCII text that sorts, byte by byte, like the version's precedence.

    Versions that differ in build metadata only have equal precedence and equal texts: where a total order is needed,
    break the tie by the version itself.

    Raises:
        ValueError: as `parse_semver`.
    """
    parsed = parse_semver(version)
    core = "".join(_number_order(str(number)) for number in (parsed.major, parsed.minor, parsed.patch))
    return core + ("".join(map(_identifier_order, parsed.pre_release)) or _RELEASE)


def _identifier_order(identifier: str) -> str:
    if identifier.isdigit():
        return _NUMERIC + _number_order(identifier)
    return _TEXTUAL + identifier + _END_OF_TEXT


def _number_order(digits: str) -> str:
    """Numbers of any size: more digits are higher, equally many compare as text."""
    return f"{len(digits):03}{digits}"
