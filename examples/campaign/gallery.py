"""Puts a run's artifacts into a folder that a person can open, under the names the skills gave them, and lists them."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rich.table import Table

from runengine_client.cli import wording
from runengine_client.types import Artifact

# Says that the folder is ours to empty.
MARKER = ".made-by-the-campaign-demo"


class GalleryError(RuntimeError):
    """The folder cannot be used; the message says what to do."""


def open_gallery(folder: Path) -> Path:
    """The folder exists and holds nothing of an earlier demo.

    Raises:
        GalleryError: it holds something that no demo made.
    """
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARKER).is_file()):
            raise GalleryError(f"{folder} holds something that no demo made: name another folder with --output")
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    return folder


def hang(artifacts: Iterable[Artifact], folder: Path) -> list[Path]:
    """Every artifact lies in `folder`; bytes that are on this disk already take no space again.

    Returns:
        The files, in the order of the artifacts; a name that two steps gave carries the second one's step id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    placed: list[Path] = []
    for artifact in artifacts:
        source = Path(unquote(urlsplit(artifact.uri).path))
        target = folder / artifact.filename
        if target in placed:
            target = folder / f"{artifact.step_id}_{artifact.filename}"
        try:
            os.link(source, target)
        except OSError:  # Another file system, or one without links.
            shutil.copyfile(source, target)
        placed.append(target)
    return placed


def catalogue(artifacts: Iterable[Artifact]) -> Table:
    """The files of an update, one a line of a terminal of 80 columns, and which run made each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("FILE", "STEP", "SIZE", "MADE BY"):
        table.add_column(column, no_wrap=True, justify="right" if column == "SIZE" else "left")
    for artifact in artifacts:
        is_own = artifact.source_run_id in ("", artifact.run_id)
        made_by = "the update" if is_own else "the build"
        table.add_row(artifact.filename, artifact.step_id, wording.size(artifact.size_bytes), made_by)
    return table
