"""The documentation site builds from the documents as they are, and needs no other host."""

import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from ..support.docs_site import build_site
from ..support.processes import REPOSITORY

CONFIGURATION = yaml.safe_load((REPOSITORY / ".ci" / "docs" / "mkdocs.yml").read_text())
# Decisions are listed by docs/adr/README.md.
IN_NAVIGATION = re.compile(r"\w+\.md|(docs|examples)/(?!adr/\d).*")


class Resources(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember addresses of what is loaded without a click."""
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio"):
            self.urls.add(given.get("src") or "")
        if tag == "link" and given.get("rel") != "canonical":
            self.urls.add(given.get("href") or "")


@pytest.fixture(scope="module")
def site() -> Path:
    """The site, built."""
    return build_site()


def test_no_other_host(site: Path) -> None:
    """No page loads anything from elsewhere."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        resources = Resources()
        resources.feed(page.read_text())
        assert [url for url in resources.urls if re.match(r"(https?:)?//", url)] == [], page
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"@import[^;]*//|url\([\"']?(?:https?:)?//", styles) == []


def test_code_is_shown(site: Path) -> None:
    """A link of a document to source code leads to a page with that code."""
    page = (site / "docs" / "one-step" / "index.html").read_text()
    (target,) = set(re.findall(r'href="([^"]*scheduler/attempt\.py/)[#"]', page))
    assert "async def" in re.sub("<[^>]*>", "", (site / "docs" / "one-step" / target / "index.html").read_text())


def test_every_document_is_in_the_navigation() -> None:
    """What is written for readers can be found from every page, or it is linked from one that can."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    documents = {path for path in listed if IN_NAVIGATION.fullmatch(path)}
    assert set(pages_of(CONFIGURATION["nav"])) == documents, "see nav in .ci/docs/mkdocs.yml"


def pages_of(navigation: list[dict[str, object]]) -> Iterator[str]:
    """Every page of a part of the navigation."""
    for entry in navigation:
        for target in entry.values():
            if isinstance(target, list):
                yield from pages_of(target)
            else:
                yield str(target)
