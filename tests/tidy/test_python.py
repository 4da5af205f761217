"""Size, names and habits of the Python code; what ruff and mypy do not look at."""

import ast
from pathlib import PurePath

import pytest

from . import source

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}

# To be split; no further ones.
TOO_LONG_FILES: set[str] = set()
TOO_LONG_FUNCTIONS = {("runengine_server/app.py", "run_engine")}

# Who may start a task outside a task group: grpc.aio hands these no place to put one.
BARE_TASKS = {
    "runengine_client/skills/server.py": "the host of calls lives as long as the server object, which ends it",
    "runengine_server/adapters/tokens/jwks.py": "a fetch of keys that callers share outlives the one that began it",
    "runengine_server/http/server.py": "uvicorn serves as long as the server object, which ends it and waits for it",
    "runengine_server/rpc/guard.py": "awaited at once; a task for its context, which a call need not keep",
    "runengine_server/rpc/watches.py": "aborts a stream that grpc.aio blocks in write",
    "tests/integration/rpc/test_server.py": "a call that is to be in flight while something else happens",
    "tests/unit/rpc/test_watches.py": "a call that is cancelled, or ends with an error",
}

# Who may sleep in a test, and why that does not synchronise anything.
SLEEPS = {
    "tests/support/": "polls with a deadline",
    "tests/simulation/": "time is virtual",
    "tests/fault/": "how long a fault lasts, and polls with a deadline",
    "tests/integration/embedded/conftest.py": "polls with a deadline",
    "tests/integration/rpc/conftest.py": "polls with a deadline",
    "tests/integration/rpc/test_watch.py": "a slow reader is slow",
    "tests/integration/skills/conftest.py": "polls with a deadline",
    "tests/integration/skills/test_process.py": "polls with a deadline",
    "tests/integration/postgres/test_single_flight.py": "polls with a deadline",
    "tests/integration/postgres/test_skill_limits.py": "how long an attempt lasts, and polls with a deadline",
    "tests/integration/postgres/test_tick.py": "polls with a deadline",
}


@pytest.mark.parametrize("path", source.modules())
def test_module(path: str) -> None:
    """A module says in its docstring what it is for, is short, is named for its subject and so are its functions."""
    assert not source.text(path).strip() or ast.get_docstring(source.tree(path)), "no module docstring"
    assert PurePath(path).stem not in FORBIDDEN_NAMES, "a name that says nothing"
    lines = source.text(path).count("\n")
    assert (lines > FILE_LINES_MAX) is (path in TOO_LONG_FILES), f"{lines} lines"
    long = {function.name: _lines(function) for function in source.functions(path)}
    too_long = {name: count for name, count in long.items() if count > FUNCTION_LINES_MAX}
    assert set(too_long) == {name for file, name in TOO_LONG_FUNCTIONS if file == path}, too_long


def test_tasks_belong_to_groups() -> None:
    """Nobody starts a task that no group owns, except where said why."""
    starters = {
        path
        for path in source.modules()
        for name, _ in source.calls(path)
        if name.endswith("ensure_future")
        or (name.endswith("create_task") and not name.startswith(("tasks.", "self._tasks.")))
    }
    assert starters <= set(BARE_TASKS)


def test_tests_do_not_sleep() -> None:
    """No test waits by the clock for something to have happened."""
    sleepers = {
        path
        for path in source.modules()
        if path.startswith("tests/")
        for name, call in source.calls(path)
        if name in ("time.sleep", "asyncio.sleep", "anyio.sleep") and not _is_zero(call)
    }
    unexplained = {path for path in sleepers if not any(path.startswith(known) for known in SLEEPS)}
    assert not unexplained


def test_every_test_says_what_must_hold() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{path}: {function.name}"
        for path in source.modules()
        if path.startswith("tests/") and PurePath(path).name.startswith("test_")
        for function in source.functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert not silent


def test_nothing_is_skipped_for_good() -> None:
    """No test is marked as skipped or expected to fail: what is not built has a test that says so."""
    marked = [
        f"{path}: {node.attr}"
        for path in source.modules()
        if path.startswith("tests/")
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr in ("skip", "xfail")
        and ast.unparse(node).startswith("pytest.mark")
    ]
    assert not marked


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _is_zero(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
