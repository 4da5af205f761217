"""Explains a configuration: every variable that is wrong, what it holds, and what to write instead."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from runengine_server.commands.addresses import check_addresses
from runengine_server.commands.configured_files import check_files
from runengine_server.commands.effective import shown, without_secrets
from runengine_server.commands.findings import Finding, failed, warning
from runengine_server.config import Settings, variable_of

PREFIX: Final = "RUNENGINE_"
OTHER_VARIABLES: Final = frozenset(
    {
        # of embedded databases
        "RUNENGINE_POSTGRES_BIN",
        "RUNENGINE_VALKEY_BIN",
        "RUNENGINE_EMBEDDED_USER",
        # of the client, in the same shell
        "RUNENGINE_TARGET",
        "RUNENGINE_TOKEN",
        "RUNENGINE_TLS",
        "RUNENGINE_URL",
    }
)
_ALIKE: Final = 0.8
_ROUNDS_MAX: Final = 10
"""What is wrong between settings shows once each is right by itself."""
_PLACEHOLDER: Final = "postgresql://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the environment says: settings as far as they can be used, and what is to be said about them.

    Attributes:
        settings: defaults stand in for what is wrong.
        unusable: the names of those settings.
        findings: failures and warnings only.
    """

    settings: Settings
    unusable: frozenset[str]
    findings: Sequence[Finding]


def examine(environment: Mapping[str, str]) -> Configuration:
    """The configuration of this process's environment, with everything that is wrong with it at once."""
    settings, wrong = _read_leniently()
    return Configuration(
        settings=settings,
        unusable=frozenset(wrong),
        findings=[
            *dict.fromkeys(wrong.values()),
            *_unknown_variables(environment),
            *check_files(settings, without=wrong),
            *check_addresses(settings, without=wrong),
        ],
    )


def _read_leniently() -> tuple[Settings, dict[str, Finding]]:
    """The settings with defaults for those that cannot be used, and what is wrong with these, by name."""
    wrong: dict[str, Finding] = {}
    for _ in range(_ROUNDS_MAX):
        try:
            return Settings(**{_init_name(name): _default(name) for name in wrong}), wrong  # type: ignore[arg-type]
        except ValidationError as error:
            for problem in error.errors():
                wrong |= _wrong_between(problem) if not problem["loc"] else _wrong_by_itself(problem)
    raise AssertionError("defaults agree with each other")


def _wrong_by_itself(problem: Any) -> dict[str, Finding]:
    place = str(problem["loc"][0])
    name = next(name for name in Settings.model_fields if place in (name, variable_of(name)))
    return {name: _explained(name, problem)}


def _wrong_between(problem: Any) -> dict[str, Finding]:
    """What is wrong between settings, under each that it names."""
    found, _, advice = str(problem["msg"]).removeprefix("Value error, ").partition(": ")
    named = [name for name in Settings.model_fields if variable_of(name) in f"{found} {advice}"]
    assert named, "a check between settings names them"
    finding = failed(variable_of(named[0]), found, advice)
    return dict.fromkeys(named, finding)


def _explained(name: str, problem: Any) -> Finding:
    field = Settings.model_fields[name]
    meaning = field.description or ""
    if problem["type"] == "missing":
        return failed(variable_of(name), "is not set", f"write {meaning}")
    value = shown(name, problem["input"])
    said = without_secrets(str(problem["msg"]))
    default = "" if field.is_required() else f"; unset it for the default {shown(name, field.default) or 'none'}"
    return failed(variable_of(name), f"{value!r}: {said}", f"{meaning or 'write one of these'}{default}")


def _init_name(name: str) -> str:
    """As what the constructor takes a setting."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else name


def _default(name: str) -> object:
    field = Settings.model_fields[name]
    return _PLACEHOLDER if field.is_required() else field.default


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    known = {variable_of(name) for name in Settings.model_fields} | OTHER_VARIABLES
    for variable in sorted({name.upper() for name in environment if name.upper().startswith(PREFIX)} - known):
        alike = get_close_matches(variable, known, n=1, cutoff=_ALIKE)
        if alike:
            yield failed(variable, "is no setting", f"did you mean {alike[0]}?")
        else:
            yield warning(variable, "is no setting, and is ignored", "unset it; docs/configuration.md lists them all")
