"""Workflow definitions from files and from Python, all as the contract's `Workflow` message."""

from runengine_client.workflow.builder import WorkflowBuilder, expression
from runengine_client.workflow.directory import WorkflowDirectory, load_directory, read_directory
from runengine_client.workflow.document import document_of
from runengine_client.workflow.files import format_workflow, load_workflow, read_workflow
from runengine_client.workflow.positions import PlacedViolation
from runengine_client.workflow.reading import WorkflowDocumentError

__all__ = [
    "PlacedViolation",
    "WorkflowBuilder",
    "WorkflowDirectory",
    "WorkflowDocumentError",
    "document_of",
    "expression",
    "format_workflow",
    "load_directory",
    "load_workflow",
    "read_directory",
    "read_workflow",
]
