"""The contract's sources: every message, field, enum value and RPC carries a comment."""

import re

import pytest

from . import source

_DECLARATION = re.compile(
    r"^\s*(?:message|enum|service|rpc|oneof)\s+\w+"
    r"|^\s*(?:repeated |optional |map<[^>]*> ?)?[\w.<>, ]+\s+\w+\s*=\s*\d+"
    r"|^\s*[A-Z0-9_]+\s*=\s*\d+"
)


@pytest.mark.parametrize("path", [path for path in source.tracked() if path.endswith(".proto")])
def test_everything_has_a_comment(path: str) -> None:
    """A declaration follows a comment line, or has one behind it."""
    lines = source.text(path).splitlines()
    bare = []
    for number, line in enumerate(lines):
        if not _DECLARATION.match(line) or line.lstrip().startswith(("//", "option", "reserved", "syntax", "package")):
            continue
        before = lines[number - 1].strip() if number else ""
        if not before.startswith("//") and not before.endswith("*/") and "//" not in line:
            bare.append(f"{number + 1}: {line.strip()}")
    assert not bare
