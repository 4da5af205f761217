"""docs/one-step.md follows the code: what it links to is defined there, in an order that calls lead along."""

import ast
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from posixpath import normpath
from typing import NamedTuple

import pytest

from . import source

PAGE = "docs/one-step.md"
MIGRATIONS = "runengine_server/adapters/postgres/migrations/"
_LINK = re.compile(r"\[`([^`\]]+)`\]\(([^)#]+)\)")
_DEFINED_AS = {
    ".sql": r"^(?:CREATE (?:OR REPLACE )?FUNCTION |-- name: ){}\b",
    ".proto": r"^\s*(?:rpc|message) {}\b",
}

Reader = Callable[[str], str]


class Station(NamedTuple):
    """A function that the page shows: its qualified name and its file."""

    name: str
    path: str

    @property
    def last_name(self) -> str:
        return self.name.rpartition(".")[2]


def stations() -> list[Station]:
    """What the page links to, in its order."""
    folder = PurePosixPath(PAGE).parent
    return [Station(name, normpath(str(folder / target))) for name, target in _LINK.findall(source.text(PAGE))]


def is_defined(station: Station, read: Reader) -> bool:
    """Whether the file defines the function; of a migration, whether no later one replaces it."""
    path, suffix = station.path, PurePosixPath(station.path).suffix
    if suffix == ".py":
        return _is_in(station.name.split("."), ast.parse(read(path)))
    definition = re.compile(_DEFINED_AS[suffix].format(re.escape(station.name)), re.MULTILINE)
    if not path.startswith(MIGRATIONS):
        return definition.search(read(path)) is not None
    defining = [
        file for file in sorted(source.tracked()) if file.startswith(MIGRATIONS) and definition.search(read(file))
    ]
    return defining[-1:] == [path]


def _is_in(names: list[str], scope: ast.Module | ast.ClassDef) -> bool:
    for node in scope.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == names[0]:
            return len(names) == 1 or (isinstance(node, ast.ClassDef) and _is_in(names[1:], node))
    return False


def without_definition(name: str, text: str) -> str:
    """The text with every definition of the name gone, so that only its uses are left."""
    return re.sub(
        rf"(?m)^(\s*(?:async )?(?:def|class|rpc|message)|CREATE.* FUNCTION|-- name:) {name}\b", r"\1 gone", text
    )


@pytest.mark.parametrize("station", stations(), ids=lambda station: station.name)
def test_each_function_is_where_the_page_says(station: Station) -> None:
    """A link names a file and a function, class or method that it defines; of SQL functions the valid definition."""
    assert is_defined(station, source.text)


def test_the_page_follows_calls() -> None:
    """The name of what comes next stands, other than where it is defined, in its own file or one shown before."""
    shown: list[str] = []
    unknown = []
    for at, station in enumerate(stations()):
        shown.append(station.path)
        used = re.compile(rf"\b{re.escape(station.last_name)}\b")
        texts = (without_definition(station.last_name, source.text(path)) for path in dict.fromkeys(shown))
        if at and not any(used.search(text) for text in texts):
            unknown.append(station)
    assert not unknown


def test_the_page_goes_all_the_way() -> None:
    """It leads from the client's call through planning, queue, scheduler, runner and cache back to the client."""
    folders = ("runengine_client/", "runengine_client/skills/", *(
        f"runengine_server/{part}/"
        for part in ("rpc", "service", "planner", "scheduler", "adapters/postgres", "adapters/cache", "adapters/skills")
    ))  # fmt: skip
    shown = [station.path for station in stations()]
    assert [folder for folder in folders if not any(path.startswith(folder) for path in shown)] == []
    assert shown[0].startswith("runengine_client/") and shown[-1].startswith("runengine_client/")


def test_a_renamed_function_is_noticed() -> None:
    """Whichever function of the page gets another name in its file, the check above says so."""
    unnoticed = []
    for station in stations():

        def renamed(path: str, station: Station = station) -> str:
            text = source.text(path)
            return without_definition(station.last_name, text) if path == station.path else text

        if is_defined(station, renamed):
            unnoticed.append(station)
    assert not unnoticed


def test_a_replaced_sql_function_is_noticed() -> None:
    """A migration that is not the last to define a function is not where the page may send its readers."""
    assert is_defined(Station("run_stop", MIGRATIONS + "0003_stopping_runs.sql"), source.text) is False
