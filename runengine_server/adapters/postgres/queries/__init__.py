"""The named statements: `-- name: noun_verb`, then why, then the SQL; one file per noun."""

import re
from functools import cache
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def all_queries() -> dict[str, str]:
    """Every named statement, by name.

    Raises:
        ValueError: a name is used twice.
    """
    found: dict[str, str] = {}
    for file in sorted(resources.files(__name__).iterdir(), key=lambda f: f.name):
        if not file.name.endswith(".sql"):
            continue
        parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, statement in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"query {name} is defined twice")
            found[name] = statement.strip()
    return found


def sql(name: str) -> str:
    """The statement of that name."""
    return all_queries()[name]
