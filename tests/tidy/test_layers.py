"""Data flows one way: the import contracts of pyproject.toml hold."""

import subprocess
import sys

from . import source

# In a process of its own: the linter puts the working directory and its own settings into the process it runs in.
_LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def test_import_contracts() -> None:
    """import-linter finds no broken contract."""
    command = [sys.executable, "-c", _LINT]
    run = subprocess.run(command, check=False, cwd=source.REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout
