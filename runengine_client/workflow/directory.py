"""Reads the workflows of a directory, and says which files in it are none."""

from dataclasses import dataclass
from pathlib import Path

from runengine_client.errors import FieldViolation
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow.files import SUFFIXES, is_workflow_file, load_workflow
from runengine_client.workflow.positions import PlacedViolation
from runengine_client.workflow.reading import WorkflowDocumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryFiles:
    """The YAML and JSON files of a directory, by name: those meant as workflows, and those that are something else."""

    workflows: tuple[Path, ...]
    others: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDirectory:
    """What a directory holds: its workflows by file name, and the YAML and JSON files that are none."""

    workflows: tuple[workflow_pb2.Workflow, ...]
    skipped: tuple[Path, ...]


def list_directory(path: Path) -> DirectoryFiles:
    """The YAML and JSON files directly in a directory; see `is_workflow_file` for which are workflows.

    Raises:
        OSError: the directory or a file cannot be read.
    """
    files = [each for each in sorted(path.iterdir()) if each.suffix in SUFFIXES and each.is_file()]
    workflows = [each for each in files if is_workflow_file(each)]
    return DirectoryFiles(
        workflows=tuple(workflows), others=tuple(each for each in files if each not in set(workflows))
    )


def read_directory(path: str | Path) -> WorkflowDirectory:
    """The workflows of a directory; folders in it are not entered.

    Raises:
        WorkflowDocumentError: workflow files that cannot be read, or two with the same name and version; all of them
            at once.
        OSError: the directory or a file cannot be read.
    """
    files = list_directory(Path(path))
    workflows: dict[tuple[str, str], tuple[str, workflow_pb2.Workflow]] = {}
    violations: list[FieldViolation] = []
    for file in files.workflows:
        try:
            workflow = load_workflow(file)
        except WorkflowDocumentError as error:
            violations.extend(_named(file, each) for each in error.violations)
            continue
        key = (workflow.name, workflow.version)
        if key in workflows:
            described = f"{workflow.name} {workflow.version} is already defined by {workflows[key][0]}"
            violations.append(FieldViolation(field=f"{file.name}: workflowName", description=described))
        else:
            workflows[key] = (file.name, workflow)
    if violations:
        raise WorkflowDocumentError(violations, str(path))
    return WorkflowDirectory(workflows=tuple(workflow for _, workflow in workflows.values()), skipped=files.others)


def load_directory(path: str | Path) -> list[workflow_pb2.Workflow]:
    """The workflows of a directory, as `read_directory` finds them."""
    return list(read_directory(path).workflows)


def _named(file: Path, violation: FieldViolation) -> FieldViolation:
    line = f":{violation.line}" if isinstance(violation, PlacedViolation) and violation.line else ""
    return FieldViolation(field=f"{file.name}{line}: {violation.field}", description=violation.description)
