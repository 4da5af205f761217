"""Reads workflow files: YAML or JSON, strictly, with every error of every file reported at once."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from runengine_client.errors import FieldViolation
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow.document import document_of, workflow_of
from runengine_client.workflow.json_text import parse_json
from runengine_client.workflow.positions import ParsedText, PlacedViolation, Spot, place, unreadable
from runengine_client.workflow.reading import WorkflowDocumentError
from runengine_client.workflow.yaml_text import format_yaml, parse_yaml

SUFFIXES = (".yaml", ".yml", ".json")

BYTES_MAX = 3 * 1024 * 1024
"""The contract's limit of a definition; a larger file cannot be registered."""

_TELLING_KEYS = frozenset({"workflowname", "steps", "changerequests"})
"""A document with one of these is meant as a workflow, however the key is spelt."""

_OWN_NAME_LINE = re.compile(rb"^workflowName[ \t]*:", re.MULTILINE)
"""Tells almost every YAML workflow without parsing it, which takes seconds for thousands of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowText:
    """A workflow with the text it was read from."""

    workflow: workflow_pb2.Workflow
    source: str
    spots: Callable[[], Spot]

    def place(self, violations: Iterable[FieldViolation]) -> list[PlacedViolation]:
        """The violations with line and column, in the order of the text."""
        return place(violations, self.spots())


def load_workflow(path: str | Path) -> workflow_pb2.Workflow:
    """The workflow in a YAML or JSON file.

    Raises:
        WorkflowDocumentError: the file is not readable as one; every error is listed with its field path and place.
        OSError: the file cannot be read.
    """
    return load_workflow_text(path).workflow


def load_workflow_text(path: str | Path) -> WorkflowText:
    """As `load_workflow`, with what tells where each field is."""
    return _workflow_text(_parse_file(Path(path)), str(path))


def read_workflow(text: str, source: str = "", *, is_json: bool = False) -> workflow_pb2.Workflow:
    """The workflow in a YAML or JSON text.

    Args:
        text: one document.
        source: where it comes from, for errors.
        is_json: read it as JSON only; YAML takes JSON too.

    Raises:
        WorkflowDocumentError: it cannot be read; every error is listed with its field path and place.
    """
    return _workflow_text(parse_json(text) if is_json else parse_yaml(text), source).workflow


def format_workflow(workflow: workflow_pb2.Workflow) -> str:
    """A YAML text that `read_workflow` reads as the same workflow, and that other readers of YAML take the same way."""
    return format_yaml(document_of(workflow))


def is_workflow_file(path: Path) -> bool:
    """Tell whether a file of a directory is meant as a workflow.

    It is if its document has one of the keys `workflowName`, `steps` and `changeRequests`, if its name ends in
    `.workflow.yaml`, `.workflow.yml` or `.workflow.json`, or if it is broken, so that nothing is left out unnoticed.

    Raises:
        OSError: the file cannot be read.
    """
    if path.suffix not in SUFFIXES:
        return False
    if Path(path.stem).suffix == ".workflow":
        return True
    if path.suffix != ".json" and _OWN_NAME_LINE.search(path.read_bytes()):
        return True
    parsed = _parse_file(path)
    if parsed.document is None and parsed.violations:
        return True
    keys = parsed.document if isinstance(parsed.document, dict) else ()
    return any(key.replace("_", "").replace("-", "").lower() in _TELLING_KEYS for key in keys)


def _parse_file(path: Path) -> ParsedText:
    content = path.read_bytes()
    if len(content) > BYTES_MAX:
        return unreadable(f"is {len(content)} bytes, and a workflow may have {BYTES_MAX}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return unreadable(f"is not UTF-8 text: {error}")
    return parse_json(text) if path.suffix == ".json" else parse_yaml(text)


def _workflow_text(parsed: ParsedText, source: str) -> WorkflowText:
    if parsed.document is None and parsed.violations:
        raise WorkflowDocumentError(parsed.violations, source)
    try:
        workflow = workflow_of(parsed.document, source)
    except WorkflowDocumentError as error:
        violations = place([*parsed.violations, *error.violations], parsed.spots())
        raise WorkflowDocumentError(violations, source) from None
    if parsed.violations:
        raise WorkflowDocumentError(parsed.violations, source)
    return WorkflowText(workflow=workflow, source=source, spots=parsed.spots)
