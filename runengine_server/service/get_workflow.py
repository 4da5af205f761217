"""Read one workflow version."""

from typing import Final

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError, NotFoundError
from runengine_server.domain.ids import Tenant
from runengine_server.domain.semver import parse_semver
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.workflow_store import WorkflowStore
from runengine_server.service.authorization import require

KNOWN_SHOWN_MAX: Final = 10
NAME_CHARS_MAX: Final = 128


async def get_workflow(store: WorkflowStore, caller: Caller, name: str, version: str) -> Workflow:
    """Return a workflow version the caller's tenant can use; the highest for an empty version.

    Raises:
        ScopeRequiredError: SCOPE_REQUIRED.
        InvalidError: VALIDATION_FAILED, the version is no SemVer version.
        NotFoundError: WORKFLOW_NOT_FOUND, naming what is known.
    """
    require(caller, Scope.RUN_READ)
    if version:
        try:
            parse_semver(version)
        except ValueError as error:
            violation = FieldViolation(field="version", description=str(error))
            raise InvalidError("VALIDATION_FAILED", f"version: {error}", violations=[violation]) from None
    workflow = await store.find(caller.tenant, name, version)
    if workflow is None:
        raise await workflow_not_found(store, caller.tenant, name, version)
    return workflow


async def workflow_not_found(store: WorkflowStore, tenant: Tenant, name: str, version: str) -> NotFoundError:
    """The refusal of a workflow that a tenant does not have; names up to ten of those it has."""
    metadata = {"workflowName": name[:NAME_CHARS_MAX], "workflowVersion": version[:NAME_CHARS_MAX]}
    versions = await store.versions(tenant, name=name, limit=KNOWN_SHOWN_MAX + 1) if name else ()
    if versions:
        known = _listed([known.version for known in versions])
        return NotFoundError(
            "WORKFLOW_NOT_FOUND",
            f"workflow {name} has no version {version}; it has {known}",
            metadata=metadata,
        )
    names = [known.name for known in await store.versions(tenant, name="", limit=KNOWN_SHOWN_MAX + 1)]
    advice = f"known are {_listed(names)}" if names else "none is registered yet"
    return NotFoundError(
        "WORKFLOW_NOT_FOUND", f"there is no workflow {name[:NAME_CHARS_MAX]!r}; {advice}", metadata=metadata
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:KNOWN_SHOWN_MAX]) + (", …" if len(names) > KNOWN_SHOWN_MAX else "")
