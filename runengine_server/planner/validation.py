"""Everything that is wrong with a workflow, found at once, before it is registered."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Final

from runengine_server.domain.errors import FieldViolation
from runengine_server.domain.ids import SkillId, StepId, StepNo
from runengine_server.domain.semver import parse_semver
from runengine_server.domain.workflow import ALL_STEPS, ChangeRule, Workflow
from runengine_server.planner.dependency_validation import dependency_violations, graph_of, read_violations
from runengine_server.planner.payload_schema import schema_problems
from runengine_server.planner.step_validation import is_plain_text, is_unicode, step_violations

STEPS_MAX: Final = 10_000
EDGES_MAX: Final = 100_000
DEFINITION_BYTES_MAX: Final = 3 * 1024 * 1024
CHANGE_RULES_MAX: Final = 1_000
LABELS_MAX: Final = 64
LABEL_KEY_CHARS_MAX: Final = 63
LABEL_VALUE_CHARS_MAX: Final = 255
CACHE_EPOCH_CHARS_MAX: Final = 128
TEXT_CHARS_MAX: Final = 1_000
"""Of a violation's field or description."""

# None of these admits ':', which separates the parts of a cache key.
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,127}")
_CHANGE_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")


def validate_workflow(workflow: Workflow, offers: Callable[[SkillId], bool]) -> list[FieldViolation]:
    """Return everything that is wrong with a workflow, each with its field's path; empty when it can be registered.

    Only a workflow beyond a size limit is not looked into any further than that, and a step that waits for a cycle is
    not told which ancestors its selector lacks.

    Args:
        workflow: any workflow, however malformed.
        offers: whether a configured target pattern matches a skill id.
    """
    violations = [*_header_violations(workflow), *_label_violations(workflow)]
    too_large = list(_size_violations(workflow))
    if too_large:
        return [_printable(violation) for violation in violations + too_large]
    step_no: dict[StepId, StepNo] = {}
    for number, step in enumerate(workflow.steps):
        step_no.setdefault(step.step_id, StepNo(number))
    violations += step_violations(workflow.steps, step_no, offers)
    violations += dependency_violations(workflow.steps, step_no)
    violations += read_violations(workflow.steps, step_no, graph_of(workflow.steps, step_no))
    violations += _rule_violations(workflow.change_rules, step_no)
    if workflow.trigger_schema is not None:
        violations += [
            FieldViolation(field=f"triggerSchema{problem.pointer}", description=problem.message)
            for problem in schema_problems(workflow.trigger_schema)
        ]
    return [_printable(violation) for violation in violations]


def _header_violations(workflow: Workflow) -> Iterator[FieldViolation]:
    if not _NAME.fullmatch(workflow.name):
        description = f"must match {_NAME.pattern}: a lower-case letter, then letters, digits, '_', '.' or '-'"
        yield FieldViolation(field="workflowName", description=description)
    try:
        parse_semver(workflow.version)
    except ValueError as error:
        yield FieldViolation(field="version", description=str(error))
    if not is_unicode(workflow.description):
        yield FieldViolation(field="description", description="contains a lone surrogate, which no UTF-8 text can")
    if not is_plain_text(workflow.cache_epoch, CACHE_EPOCH_CHARS_MAX):
        description = f"must be at most {CACHE_EPOCH_CHARS_MAX} characters without control characters"
        yield FieldViolation(field="cacheEpoch", description=description)


def _label_violations(workflow: Workflow) -> Iterator[FieldViolation]:
    if len(workflow.labels) > LABELS_MAX:
        yield FieldViolation(
            field="labels", description=f"must be at most {LABELS_MAX}; there are {len(workflow.labels)}"
        )
        return
    for key, value in workflow.labels.items():
        if not key or not is_plain_text(key, LABEL_KEY_CHARS_MAX):
            description = f"a label's key must be 1 to {LABEL_KEY_CHARS_MAX} characters without control characters"
            yield FieldViolation(field=f"labels[{_quoted(key)}]", description=description)
        if not is_plain_text(value, LABEL_VALUE_CHARS_MAX):
            description = f"must be at most {LABEL_VALUE_CHARS_MAX} characters without control characters"
            yield FieldViolation(field=f"labels[{_quoted(key)}]", description=description)


def _size_violations(workflow: Workflow) -> Iterator[FieldViolation]:
    edges = sum(len(step.depends_on) for step in workflow.steps)
    if not workflow.steps:
        yield FieldViolation(field="steps", description="must be at least one")
    if len(workflow.steps) > STEPS_MAX:
        yield FieldViolation(field="steps", description=f"must be at most {STEPS_MAX}; there are {len(workflow.steps)}")
    if edges > EDGES_MAX:
        yield FieldViolation(
            field="steps", description=f"must have at most {EDGES_MAX} dependencies in all, not {edges}"
        )
    if len(workflow.change_rules) > CHANGE_RULES_MAX:
        description = f"must be at most {CHANGE_RULES_MAX}; there are {len(workflow.change_rules)}"
        yield FieldViolation(field="changeRequests", description=description)
    size = _definition_bytes(workflow)
    if size > DEFINITION_BYTES_MAX:
        yield FieldViolation(field="", description=f"the definition must be at most 3 MiB; it is {size} bytes")


def _definition_bytes(workflow: Workflow) -> int:
    """The length of what the author wrote; punctuation and defaults are not counted."""
    texts = [workflow.name, workflow.version, workflow.description, workflow.cache_epoch]
    texts += [text for label in workflow.labels.items() for text in label]
    for rule in workflow.change_rules:
        texts += [rule.type, rule.description, *rule.seed_step_ids]
    for step in workflow.steps:
        texts += [
            step.step_id,
            step.skill_id,
            step.description,
            *step.depends_on,
            *step.retry_policy.non_retryable_codes,
        ]
        texts.append(_json_text(step.input_selector))
    if workflow.trigger_schema is not None:
        texts.append(_json_text(workflow.trigger_schema))
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def _json_text(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):  # refused with its pointer later
        return ""


def _rule_violations(rules: tuple[ChangeRule, ...], step_no: dict[StepId, StepNo]) -> Iterator[FieldViolation]:
    seen: set[str] = set()
    for rule in rules:
        path = f"changeRequests[{_quoted(rule.type)}]"
        if not _CHANGE_TYPE.fullmatch(rule.type):
            description = f"the type must match {_CHANGE_TYPE.pattern}, as in audio.update"
            yield FieldViolation(field=path, description=description)
        if rule.type in seen:
            yield FieldViolation(field=path, description="there is more than one rule for this type; keep one")
        seen.add(rule.type)
        if not is_unicode(rule.description):
            yield FieldViolation(field=f"{path}.description", description="contains a lone surrogate")
        yield from _seed_violations(path, rule, step_no)


def _seed_violations(path: str, rule: ChangeRule, step_no: dict[StepId, StepNo]) -> Iterator[FieldViolation]:
    if not rule.seed_step_ids:
        description = f"must name at least one step, or '{ALL_STEPS}' for every step"
        yield FieldViolation(field=f"{path}.seedStepIds", description=description)
    seen: set[str] = set()
    for index, seed in enumerate(rule.seed_step_ids):
        field = f"{path}.seedStepIds[{index}]"
        if seed in seen:
            yield FieldViolation(field=field, description=f"'{seed}' is listed more than once")
        elif seed == ALL_STEPS:
            if len(rule.seed_step_ids) > 1:
                yield FieldViolation(field=field, description=f"'{ALL_STEPS}' means every step and must stand alone")
        elif seed not in step_no:
            yield FieldViolation(field=field, description=f"there is no step '{seed}' in this workflow")
        seen.add(seed)


def _printable(violation: FieldViolation) -> FieldViolation:
    """The violation with a bounded length and no lone surrogates, whatever text of the author's it quotes."""
    return FieldViolation(field=_shown(violation.field), description=_shown(violation.description))


def _shown(text: str) -> str:
    text = text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"
    return text.encode(errors="backslashreplace").decode()


def _quoted(key: str) -> str:
    return json.dumps(key)
