"""What every file of the repository must keep to: no machine's paths, no registries, links that lead somewhere."""

import re
from pathlib import PurePosixPath

import pytest

from . import source

# Written so that this file does not find itself.
_REGISTRIES = (
    "py" + "pi.org",
    "python" + "hosted.org",
    "registry.np" + "mjs",
    "proxy.go" + "lang.org",
    "index-" + "url=",
)
_MACHINE_PATHS = ("/wo" + "rk/", "/ho" + "me/", "/Us" + "ers/")
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_no_registry_is_named() -> None:
    """Where packages come from is the installer's configuration, nothing in the repository depends on it."""
    assert not [(path, host) for path in source.tracked() for host in _REGISTRIES if host in source.text(path)]


def test_no_path_of_a_machine() -> None:
    """Nothing refers to a folder that exists on one machine only."""
    assert not [(path, folder) for path in source.tracked() for folder in _MACHINE_PATHS if folder in source.text(path)]


@pytest.mark.parametrize("path", [path for path in source.tracked() if path.endswith(".md")])
def test_links_lead_somewhere(path: str) -> None:
    """Every relative link of a document is a file or folder of the repository."""
    folder = PurePosixPath(path).parent
    broken = [
        target
        for target in _LINK.findall(source.text(path))
        if "://" not in target and not target.startswith("mailto:")
        and not (source.REPOSITORY / folder / target).exists()
    ]  # fmt: skip
    assert not broken


def test_every_document_is_reachable() -> None:
    """Each page below docs/ is named by another document, so that a reader can come to it."""
    documents = [path for path in source.tracked() if path.endswith(".md")]
    linked = {
        str((source.REPOSITORY / PurePosixPath(path).parent / target).resolve().relative_to(source.REPOSITORY))
        for path in documents
        for target in _LINK.findall(source.text(path))
        if "://" not in target and (source.REPOSITORY / PurePosixPath(path).parent / target).exists()
    }
    orphans = {path for path in documents if path.startswith("docs/") and path not in linked}
    assert {path for path in orphans if str(PurePosixPath(path).parent) not in linked} == set()


def test_text_files_end_with_a_newline() -> None:
    """No trailing blanks at the end of files, no carriage returns."""
    suffixes = (".py", ".sql", ".proto", ".md", ".toml", ".yaml", ".yml", ".sh")
    assert not [
        path
        for path in source.tracked()
        if path.endswith(suffixes)
        and (text := source.text(path))
        and (not text.endswith("\n") or text.endswith("\n\n") or "\r" in text)
    ]
