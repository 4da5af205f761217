"""What a Containerfile would make, as a folder: for machines without a builder of images.

The steps are taken from the file: what the context holds, what is copied, which variables, commands and user there are.
Packages are those of this environment, but only the ones that the image's lock names.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import gettempdir

from .processes import REPOSITORY

# The interpreter of this machine may lie in somebody's home: it may be read, nothing more.
_READ_ONLY = (
    "--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search"
)


@cache
def can_isolate() -> bool:
    """Whether this machine lets us become another user on a root that is read only."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Containerfile:
    """The instructions of the last stage, and what the stages before it copy and install."""

    instructions: list[tuple[str, str]]
    ignored: Path

    @classmethod
    def read(cls, path: Path) -> "Containerfile":
        """The file as a builder reads it: lines joined, comments left out."""
        text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
        lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
        own = path.with_name(f"{path.name}.dockerignore")
        instructions = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]
        return cls(instructions=instructions, ignored=own if own.exists() else REPOSITORY / ".dockerignore")

    @property
    def last_stage(self) -> list[tuple[str, str]]:
        """From the last FROM on."""
        begin = max(index for index, (word, _) in enumerate(self.instructions) if word == "FROM")
        return self.instructions[begin:]

    def last(self, word: str) -> str:
        """What the image's last instruction of this kind says."""
        return [rest for each, rest in self.last_stage if each == word][-1]

    def argv(self, word: str) -> list[str]:
        """A command in its exec form."""
        parts: list[str] = json.loads(self.last(word)[self.last(word).index("[") :])
        return parts

    @property
    def variables(self) -> dict[str, str]:
        """Of ENV, without PATH."""
        pairs = [part.partition("=") for word, rest in self.last_stage if word == "ENV" for part in shlex.split(rest)]
        return {name: value for name, _, value in pairs if name != "PATH"}

    @property
    def context(self) -> list[str]:
        """What the builder is given."""
        return [line[1:] for line in self.ignored.read_text().splitlines() if line.startswith("!")]

    @property
    def lock(self) -> Path:
        """What its packages are pinned by."""
        runs = [rest for word, rest in self.instructions if word == "RUN"]
        [name] = re.findall(r"--require-hashes.* --requirement (\S+)", "\n".join(runs))
        return REPOSITORY / name


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """An image's files: `site` for packages, `root` for its working directory."""

    file: Containerfile
    folder: Path

    @classmethod
    def build(cls, path: Path, folder: Path) -> "ImageFolder":
        """Take the Containerfile's steps."""
        image = cls(file=Containerfile.read(path), folder=folder)
        context = folder / "context"
        for name in image.file.context:
            _copy(REPOSITORY / name, context / name)
        image._link_locked()
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        subprocess.run([*install, "--target", folder / "site", "."], cwd=context, check=True, capture_output=True)
        (folder / "root").mkdir()
        for word, rest in image.file.last_stage:
            if word == "COPY" and "--from" not in rest:
                source, target = rest.split()
                _copy(context / source, folder / "root" / Path(target).relative_to("/app"))
        for each in (folder, *folder.parents):
            # pytest's folders are its user's alone; the image's user has to come through.
            if can_isolate() and each.is_relative_to(gettempdir()):
                each.chmod(each.stat().st_mode | 0o055)
        return image

    def _link_locked(self) -> None:
        locked = self.folder / "locked"
        locked.mkdir()
        for name in re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==", self.file.lock.read_text(), re.MULTILINE):
            try:
                found = distribution(name)
            except PackageNotFoundError:
                continue  # of another platform
            for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
                if not (locked / top).exists():
                    (locked / top).symlink_to(Path(str(found.locate_file(top))))

    def command(self, argv: list[str]) -> list[str]:
        """The command with the image's packages and no others; where possible, on a root that its user cannot write."""
        script = self.folder / "site" / "bin" / argv[0]
        program = ["python", "-S"] if not script.exists() else ["python", "-S", str(script)]
        program[0] = sys.executable
        inside = [*program, *argv[1:]]
        private = self.folder / "tmp"
        private.mkdir(exist_ok=True)
        if not can_isolate():
            return inside
        user, _, group = self.file.last("USER").partition(":")
        mounts = f"mount -t tmpfs -o mode=1777 tmpfs {private} && mount -o remount,bind,ro /"
        become = f"setpriv --reuid={user} --regid={group} --clear-groups --no-new-privs {_READ_ONLY}"
        return [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            f"{mounts} && exec {become} {shlex.join(inside)}",
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Its variables."""
        folders = [self.folder / "root", self.folder / "site", self.folder / "locked"]
        return {
            **self.file.variables,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "TMPDIR": str(self.folder / "tmp"),
        }


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
