"""Which settings hold and where each comes from, shown without anything secret."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from rich.table import Table

from runengine_server.config import Settings, variable_of

_USERINFO: Final = re.compile(r"(?<=://)([^/@\s:]*):\S*@")
_QUERY: Final = re.compile(r"(?i)([?&](?:password|sslpassword|passfile|token|key|secret)=)[^&\s]*")
_SECRET: Final = re.compile(r"(?:^|_)(?:token|tokens|secret|secrets|password|passwords|key|keys)$")
HIDDEN: Final = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSetting:
    """A setting as it holds; `source` is `environment`, `secrets` (a file) or `default`."""

    variable: str
    value: str
    source: str


def effective_settings(settings: Settings, environment: Mapping[str, str]) -> list[EffectiveSetting]:
    """Every setting, in the order of their documentation."""
    given = dict.fromkeys((each.name.upper() for each in _secret_files(settings)), "secrets")
    given |= dict.fromkeys((name.upper() for name in environment), "environment")
    return [
        EffectiveSetting(
            variable=variable_of(name),
            value=shown(name, getattr(settings, name)),
            source=given.get(variable_of(name), "default"),
        )
        for name in Settings.model_fields
    ]


def _secret_files(settings: Settings) -> Iterator[Path]:
    return settings.secrets_dir.iterdir() if settings.secrets_dir else iter(())


def shown(name: str, value: object) -> str:
    """The value of a setting as people may see it: as one writes it, secrets hidden, empty for none."""
    if value is None or value == "":
        return ""
    if is_secret(name):
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        value = value.value
    return without_secrets(str(value))


def is_secret(name: str) -> bool:
    """Whether the setting's value is a secret as a whole; files of secrets are named, not shown."""
    field = Settings.model_fields[name]
    return "Path" not in str(field.annotation) and _SECRET.search(name) is not None


def without_secrets(text: str) -> str:
    """A text with the passwords of URLs in it hidden."""
    return _QUERY.sub(rf"\g<1>{HIDDEN}", _USERINFO.sub(rf"\g<1>:{HIDDEN}@", text))


def settings_table(settings: Sequence[EffectiveSetting]) -> Table:
    """One setting a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("VARIABLE", "VALUE", "FROM"):
        table.add_column(column, overflow="fold")
    for each in settings:
        table.add_row(each.variable, each.value or "none", each.source)
    return table
