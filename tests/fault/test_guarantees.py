"""The documents about guarantees name tests that exist."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_NAMED = re.compile(r"`(?P<file>[\w/]+\.py)(?:::(?P<test>\w+))?`")


@pytest.mark.parametrize("document", ["guarantees.md", "robustness.md"])
def test_named_tests_exist(document: str) -> None:
    """Every test and file that a document names exists, and each clause of the guarantees names a test."""
    text = (REPOSITORY / "docs" / document).read_text(encoding="utf-8")
    named = list(_NAMED.finditer(text))
    assert len(named) > 5
    missing = [each.group(0) for each in named if not _exists(each["file"], each["test"])]
    assert not missing


def test_every_clause_is_checked() -> None:
    """No clause of the guarantees is without a test."""
    text = (REPOSITORY / "docs" / "guarantees.md").read_text(encoding="utf-8")
    clauses = re.split(r"^## (?=\d+\. )", text, flags=re.MULTILINE)[1:]
    assert [int(clause.split(".")[0]) for clause in clauses] == list(range(1, len(clauses) + 1))
    assert [clause.splitlines()[0] for clause in clauses if "::test_" not in clause] == []


def _exists(file: str, test: str | None) -> bool:
    path = REPOSITORY / file
    if "/" not in file:
        candidates = list((REPOSITORY / "tests").rglob(file))
        return any(test is None or test in _tests_of(candidate) for candidate in candidates)
    return path.is_file() and (test is None or test in _tests_of(path))


def _tests_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
