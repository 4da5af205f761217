"""Part of the composition: the files of RUNENGINE_WORKFLOW_DIR become workflows of every tenant at start."""

import logging
from pathlib import Path

from runengine_client.workflow import WorkflowDocumentError, read_directory
from runengine_server.config import ConfigurationError
from runengine_server.rpc.conversion.workflow import read_workflow
from runengine_server.service.register_workflow import Registry, register_directory

_log = logging.getLogger("runengine")


async def register_workflow_dir(path: Path, registry: Registry) -> None:
    """Register the workflows of a directory; files in it that are none are named in the log.

    Raises:
        ConfigurationError: a workflow file, or the directory, cannot be read.
        InvalidError: WORKFLOW_INVALID, with every violation of every workflow.
        ConflictError: WORKFLOW_VERSION_CONFLICT.
    """
    try:
        directory = read_directory(path)
    except (WorkflowDocumentError, OSError) as error:
        raise ConfigurationError(f"RUNENGINE_WORKFLOW_DIR: {error}") from None
    if directory.skipped:
        names = ", ".join(each.name for each in directory.skipped)
        _log.info(f"RUNENGINE_WORKFLOW_DIR: skipped, not workflows: {names}")
    await register_directory(registry, [read_workflow(proto) for proto in directory.workflows])
