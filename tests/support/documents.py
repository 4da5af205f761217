"""Code blocks of documents, for the tests that execute them."""

import re
from pathlib import Path
from typing import NamedTuple

from .processes import REPOSITORY

_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block, without the indentation of the list it may stand in."""

    language: str
    code: str


def all_blocks(document: str | Path) -> list[Block]:
    """The blocks of a document of the repository, in its order; the language is the word behind the fence, or empty."""
    found = _FENCE.findall((REPOSITORY / document).read_text(encoding="utf-8"))
    return [
        Block((info.split() or [""])[0], re.sub(rf"^{indent}", "", code, flags=re.MULTILINE))
        for indent, info, code in found
    ]


def blocks(document: str | Path, language: str) -> list[str]:
    """The code of a document's blocks of one language."""
    return [block.code for block in all_blocks(document) if block.language == language]


def shape(value: object) -> object:
    """What kind of JSON it is: names and types, at any depth."""
    return {key: shape(each) for key, each in value.items()} if isinstance(value, dict) else type(value)
