"""Workflow definitions from files and from Python, all as the contract's `Workflow` message."""

from runengine_client.workflow.builder import WorkflowBuilder, expression
from runengine_client.workflow.document import document_of
from runengine_client.workflow.files import format_workflow, load_directory, load_workflow, read_workflow
from runengine_client.workflow.reading import WorkflowDocumentError

__all__ = [
    "WorkflowBuilder",
    "WorkflowDocumentError",
    "document_of",
    "expression",
    "format_workflow",
    "load_directory",
    "load_workflow",
    "read_workflow",
]
