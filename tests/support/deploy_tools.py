"""Reads the files of deploy/, and asks programs that may be missing about them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .processes import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
_TOOLS = REPOSITORY / ".tools" / "deploy" / "bin"


def load_yaml(path: Path) -> Any:
    """What is in a file."""
    return yaml.safe_load(path.read_text())


def tool(name: str) -> str:
    """The path of a program; without it the test is skipped."""
    found = shutil.which(name, path=str(_TOOLS)) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: .ci/deploy_tools.sh installs it")
    return found


def run(*command: str, cwd: Path = REPOSITORY) -> str:
    """What a program says, both ways, once it ended well."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def asked(program: str, package: str, question: Any) -> Any:
    """What a Python program answers in the environment of the tools, both as JSON; skipped without that package."""
    python = str(_TOOLS / "python")
    if not Path(python).exists() or subprocess.run([python, "-c", f"import {package}"], check=False).returncode:
        pytest.skip(f"no {package}: .ci/deploy_tools.sh installs it")
    command = [python, "-c", program]
    done = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
