"""The documentation site, built for tests that read it."""

import subprocess
from pathlib import Path

import pytest

from .processes import REPOSITORY, clean_environment

_BUILD_S_MAX = 300


def build_site() -> Path:
    """The folder of the site, just built; the test is skipped where the site's tools cannot be installed."""
    done = subprocess.run(
        [".ci/docs.sh"],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_S_MAX,
        check=False,
    )
    if done.returncode and not (REPOSITORY / ".tools" / "docs-venv" / "requirements.txt").exists():
        pytest.skip("the site's tools cannot be installed")
    assert done.returncode == 0, done.stdout + done.stderr
    return REPOSITORY / "build" / "site"
