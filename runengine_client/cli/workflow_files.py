"""Which workflow files a command line names: files as they are, and the workflows of directories."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from runengine_client.cli.session import Session
from runengine_client.workflow.directory import list_directory

Files = Annotated[
    list[Path], typer.Argument(exists=True, help="YAML or JSON files, or directories of them.", show_default=False)
]


def expand(session: Session, files: Sequence[Path]) -> list[Path]:
    """The files, directories replaced by the workflow files in them; what is skipped there is said."""
    found: list[Path] = []
    for file in files:
        if not file.is_dir():
            found.append(file)
            continue
        listed = list_directory(file)
        found.extend(listed.workflows)
        for other in listed.others:
            session.note(f"{other}: skipped, not a workflow (no workflowName, steps or changeRequests)")
        if not listed.workflows:
            session.note(f"{file}: no workflow files")
    return found
