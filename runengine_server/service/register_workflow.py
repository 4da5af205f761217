"""Register a workflow version: everything wrong with it is said at once, then it never changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

import anyio.to_thread

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import ConflictError, FieldViolation, InvalidError, ScopeRequiredError
from runengine_server.domain.ids import SkillId, Tenant
from runengine_server.domain.workflow import Workflow
from runengine_server.planner.validation import STEPS_MAX, validate_workflow
from runengine_server.ports.skill_runner import SkillAvailability, SkillRunner
from runengine_server.ports.workflow_store import DIRECTORY, WorkflowStore
from runengine_server.service.authorization import require
from runengine_server.service.messages import RegisterWorkflowAnswer

DIRECTORY_PRINCIPAL: Final = "directory"

# Validating takes up to 0.2 ms a step; what would hold the event loop for longer than 20 ms goes to a thread.
VALIDATED_INLINE_STEPS_MAX: Final = 100

_SUMMARY_VIOLATIONS_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What registering takes: where versions are kept, what is known of skills, and whether artifacts can be probed."""

    store: WorkflowStore
    skills: SkillRunner
    has_artifact_roots: bool = True


async def register_workflow(
    registry: Registry, caller: Caller, workflow: Workflow, *, validate_only: bool
) -> RegisterWorkflowAnswer:
    """Check a workflow and make it available to the caller's tenant; with `validate_only` only check it.

    Idempotent by: (tenant, name, version) with the same content.

    Raises:
        ScopeRequiredError: SCOPE_REQUIRED.
        InvalidError: WORKFLOW_INVALID, with a violation for everything that is wrong.
        ConflictError: WORKFLOW_VERSION_CONFLICT, the version exists with other content.
    """
    require(caller, Scope.WORKFLOW_WRITE)
    if caller.tenant == DIRECTORY:
        raise ScopeRequiredError("SCOPE_REQUIRED", "the credential names no tenant to register a workflow for")
    violations, warnings = await _examined(workflow, registry)
    if violations:
        _refuse(f"workflow {workflow.name} {workflow.version}", violations)
    if validate_only:
        return await _checked(registry.store, caller.tenant, workflow, warnings)
    return await _added(registry.store, caller.tenant, workflow, caller.principal, warnings)


async def register_directory(registry: Registry, workflows: Sequence[Workflow]) -> list[RegisterWorkflowAnswer]:
    """Check the workflows of the server's directory and make them available to every tenant; none if one is wrong.

    Idempotent by: (name, version) with the same content, so that every server may do it at every start.

    Raises:
        InvalidError: WORKFLOW_INVALID, with every violation of every workflow; fields start with name and version.
        ConflictError: WORKFLOW_VERSION_CONFLICT, a version exists with other content, here or in storage.
    """
    violations: list[FieldViolation] = []
    warnings: list[tuple[str, ...]] = []
    for workflow in workflows:
        wrong, doubtful = await _examined(workflow, registry)
        name = f"{workflow.name}@{workflow.version}"
        violations += [replace(v, field=f"{name}: {v.field}" if v.field else name) for v in wrong]
        warnings.append(doubtful)
    if violations:
        _refuse("the workflow directory", violations)
    for workflow, doubtful in zip(workflows, warnings, strict=True):
        await _checked(registry.store, DIRECTORY, workflow, doubtful)
    return [
        await _added(registry.store, DIRECTORY, workflow, DIRECTORY_PRINCIPAL, doubtful)
        for workflow, doubtful in zip(workflows, warnings, strict=True)
    ]


async def _added(
    store: WorkflowStore, owner: Tenant, workflow: Workflow, principal: str, warnings: tuple[str, ...]
) -> RegisterWorkflowAnswer:
    stored, is_created = await store.add(owner, workflow, principal)
    if stored.digest != workflow.digest:
        raise _conflict(workflow)
    return RegisterWorkflowAnswer(workflow=stored, is_created=is_created, warnings=warnings)


async def _checked(
    store: WorkflowStore, owner: Tenant, workflow: Workflow, warnings: tuple[str, ...]
) -> RegisterWorkflowAnswer:
    """The answer without writing anything.

    Raises:
        ConflictError: WORKFLOW_VERSION_CONFLICT.
    """
    known = await store.find_version(owner, workflow.name, workflow.version)
    if known is not None and known.owner == owner and known.digest != workflow.digest:
        raise _conflict(workflow)
    return RegisterWorkflowAnswer(workflow=workflow, is_created=False, warnings=warnings)


async def _examined(workflow: Workflow, registry: Registry) -> tuple[list[FieldViolation], tuple[str, ...]]:
    """What is wrong with a workflow, and what may become a problem."""
    known = {
        skill_id: registry.skills.availability(skill_id)
        for skill_id in dict.fromkeys(step.skill_id for step in workflow.steps[: STEPS_MAX + 1])
    }
    if len(workflow.steps) <= VALIDATED_INLINE_STEPS_MAX:
        violations = validate_workflow(workflow, lambda skill_id: known[skill_id].has_target)
    else:
        violations = await anyio.to_thread.run_sync(
            validate_workflow, workflow, lambda skill_id: known[skill_id].has_target
        )
    doubts = [*_unreachable_skills(known)]
    if not registry.has_artifact_roots and any(step.verify_artifacts for step in workflow.steps):
        doubts.append("verifyArtifacts has no effect: the server has no artifact roots, so nothing can be probed")
    return violations + list(_unlisted_skills(workflow, known)), tuple(doubts)


def _unlisted_skills(workflow: Workflow, known: Mapping[SkillId, SkillAvailability]) -> Iterable[FieldViolation]:
    """The steps whose runner is known, and does not have the skill."""
    for number, step in enumerate(workflow.steps[:STEPS_MAX]):
        skill = known[step.skill_id]
        if skill.has_target and skill.is_catalogue_known and skill.info is None:
            yield FieldViolation(
                field=f"steps[{number}].skillId",
                description=(
                    f"SKILL_UNREGISTERED: the runner that '{step.skill_id}' goes to does not offer it; "
                    "correct the id or start a runner that does"
                ),
            )


def _unreachable_skills(known: Mapping[SkillId, SkillAvailability]) -> Iterable[str]:
    for skill_id, skill in known.items():
        if skill.has_target and not skill.is_catalogue_known:
            yield f"the runner for skill '{skill_id}' has not been reached yet; whether it offers the skill is unknown"


def _refuse(what: str, violations: Sequence[FieldViolation]) -> NoReturn:
    """Refuse with every violation.

    Raises:
        InvalidError: WORKFLOW_INVALID.
    """
    shown = "; ".join(
        f"{v.field}: {v.description}" if v.field else v.description for v in violations[:_SUMMARY_VIOLATIONS_MAX]
    )
    more = len(violations) - _SUMMARY_VIOLATIONS_MAX
    raise InvalidError(
        "WORKFLOW_INVALID",
        f"{what} is not valid: {shown}" + (f"; and {more} more" if more > 0 else ""),
        violations=violations,
        metadata={"violationCount": str(len(violations))},
    )


def _conflict(workflow: Workflow) -> ConflictError:
    return ConflictError(
        "WORKFLOW_VERSION_CONFLICT",
        f"workflow {workflow.name} {workflow.version} is registered with other content and a version never changes; "
        "raise the version and register again",
        metadata={"workflowName": workflow.name, "workflowVersion": workflow.version},
    )
