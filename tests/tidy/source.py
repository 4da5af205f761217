"""The repository's own files as the tidy tests read them: those git knows, parsed once."""

import ast
import subprocess
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
GENERATED = "runengine_client/pb/"


@cache
def tracked() -> tuple[str, ...]:
    """Every file that git tracks and that is there, by path from the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return tuple(path for path in listed.stdout.split("\0") if path and (REPOSITORY / path).is_file())


@cache
def text(path: str) -> str:
    """What is in a text file; empty for a binary one."""
    try:
        return (REPOSITORY / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def modules() -> list[str]:
    """The Python files that people write."""
    return [path for path in tracked() if path.endswith(".py") and not path.startswith(GENERATED)]


@cache
def tree(path: str) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(text(path), filename=path)


def functions(path: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a module, at any depth."""
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def calls(path: str) -> list[tuple[str, ast.Call]]:
    """Every call of a module with the dotted name of what is called, as far as it is a name."""
    return [(_dotted(node.func), node) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return "?"
