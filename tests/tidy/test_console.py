"""The console's sources keep to what the rest of the code keeps to, and its pages are those that the server serves."""

import re

import pytest

from runengine_server.http.console import PAGES

from . import source

SOURCES = [path for path in source.tracked() if re.match(r"web/console/(src|build)/.*\.(tsx?|mjs|css)$", path)]
LINES_MAX = 400


def test_there_are_sources() -> None:
    """The tests below look at something."""
    assert len(SOURCES) > 40


@pytest.mark.parametrize("path", SOURCES)
def test_files_say_their_reason_and_stay_small(path: str) -> None:
    """The first line says what the file is for, and none has more lines than a reader keeps in mind."""
    lines = source.text(path).splitlines()
    assert re.match(r"(//|/\*) [A-Z]", lines[0]), lines[0]
    assert len(lines) <= LINES_MAX


def test_pages_are_those_of_the_server() -> None:
    """An address that the application knows is served, and an address that is served is one that it knows."""
    known = re.findall(r'^  \["(/[^"]*)", \w+\],$', source.text("web/console/src/app.tsx"), re.MULTILINE)
    assert sorted(known) == sorted(set(PAGES) - {"/"})


def test_nothing_outside_is_named() -> None:
    """No source and no built file names another host, but for the names of XML."""
    built = [
        path for path in source.tracked() if re.match(r"runengine_server/http/console/.*\.(html|js|css|svg)$", path)
    ]
    assert built
    hosts = {host for path in SOURCES + built for host in re.findall(r"https?://([\w.-]+)", source.text(path))}
    assert hosts <= {"www.w3.org", "127.0.0.1"}


def test_no_markup_in_strings() -> None:
    """No source makes markup of text: what people write in payloads and labels stays text."""
    assert not [
        path for path in SOURCES if re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", source.text(path))
    ]
