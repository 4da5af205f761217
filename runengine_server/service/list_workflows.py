"""Read the workflows a tenant can use, page by page."""

import base64
import binascii
from typing import Final

import orjson

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.semver import parse_semver
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.ports.workflow_store import WorkflowStore
from runengine_server.service.authorization import require
from runengine_server.service.message_size import fitting, json_bytes
from runengine_server.service.messages import WorkflowPage
from runengine_server.service.page_tokens import page_size as page_size_of

TOKEN_CHARS_MAX: Final = 1024


async def list_workflows(
    store: WorkflowStore, caller: Caller, *, page_size: int, page_token: str, all_versions: bool
) -> WorkflowPage:
    """Return workflows by name, highest version first; every version, or only the highest of each name.

    Raises:
        ScopeRequiredError: SCOPE_REQUIRED.
        InvalidError: VALIDATION_FAILED for a negative page size, PAGE_TOKEN_INVALID.
    """
    require(caller, Scope.RUN_READ)
    limit = page_size_of(page_size)
    after = _decoded(page_token, all_versions=all_versions) if page_token else None
    found, has_more = await store.names(caller.tenant, after=after, limit=limit, all_versions=all_versions)
    workflows = tuple(fitting(found, _workflow_bytes))
    has_more = has_more or len(workflows) < len(found)
    token = _encoded(workflows[-1], all_versions=all_versions) if has_more and workflows else ""
    return WorkflowPage(workflows=workflows, next_page_token=token)


def _encoded(last: Workflow, *, all_versions: bool) -> str:
    """A token that continues after a workflow; names and versions sort as text, so they are the position."""
    return base64.urlsafe_b64encode(orjson.dumps([all_versions, last.name, last.version])).decode().rstrip("=")


def _decoded(token: str, *, all_versions: bool) -> tuple[str, str]:
    if len(token) > TOKEN_CHARS_MAX:
        raise _invalid("is not one of this server's")
    try:
        padded = token + "=" * (-len(token) % 4)
        match orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True)):
            case [bool(made_for), str(name), str(version)]:
                parse_semver(version)
                if not name.isascii() or not name.isprintable():
                    raise ValueError
            case _:
                raise ValueError
    except (ValueError, binascii.Error):
        raise _invalid("is not one of this server's") from None
    if made_for is not all_versions:
        raise _invalid("belongs to a request with another allVersions")
    return name, version


def _invalid(why: str) -> InvalidError:
    return InvalidError(
        "PAGE_TOKEN_INVALID",
        f"the page token {why}; start again without one, or repeat the request it came from",
        violations=[FieldViolation(field="pageToken", description=why)],
    )


def _workflow_bytes(workflow: Workflow) -> int:
    """An estimate of what a workflow takes on the wire."""
    size = 400 + _text(workflow.description, *workflow.labels.keys(), *workflow.labels.values())
    size += sum(map(_step_bytes, workflow.steps))
    size += sum(32 + _text(rule.type, rule.description, *rule.seed_step_ids) for rule in workflow.change_rules)
    return size if workflow.trigger_schema is None else size + json_bytes(workflow.trigger_schema)


def _step_bytes(step: StepDefinition) -> int:
    texts = _text(
        step.step_id, step.skill_id, step.description, *step.depends_on, *step.retry_policy.non_retryable_codes
    )
    return 64 + texts + json_bytes(step.input_selector)


def _text(*texts: str) -> int:
    return sum(3 + (len(text) if text.isascii() else len(text.encode())) for text in texts)
