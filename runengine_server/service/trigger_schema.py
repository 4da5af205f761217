"""Check a run's effective payload against its workflow's trigger schema, in bounded time."""

from collections import OrderedDict
from typing import Final

from jsonschema.protocols import Validator

from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.ids import WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.workflow import Workflow
from runengine_server.planner.bounded_schema import bounded_validator, departures

_COMPILED_MAX: Final = 256

_compiled: OrderedDict[WorkflowDigest, Validator] = OrderedDict()


def check_payload_schema(workflow: Workflow, payload: JsonObject) -> None:
    """Return when the effective payload satisfies the workflow's trigger schema, or it has none.

    Neither message nor violations repeat what the payload holds.

    Raises:
        InvalidError: PAYLOAD_SCHEMA_MISMATCH, with a violation for each place that departs from the schema.
    """
    if workflow.trigger_schema is None:
        return
    violations = [
        FieldViolation(field=f"triggerPayload{problem.pointer}", description=problem.message)
        for problem in departures(_validator(workflow.digest, workflow.trigger_schema), payload)
    ]
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise InvalidError(
            "PAYLOAD_SCHEMA_MISMATCH",
            f"the payload does not satisfy the schema of {workflow.name} {workflow.version}: "
            f"{first.field} {first.description}{more}",
            violations=violations,
            metadata={"workflowName": workflow.name, "workflowVersion": workflow.version},
        )


def _validator(digest: WorkflowDigest, schema: JsonObject) -> Validator:
    if not digest:
        return bounded_validator(schema)
    validator = _compiled.get(digest)
    if validator is None:
        validator = _compiled[digest] = bounded_validator(schema)
        if len(_compiled) > _COMPILED_MAX:
            _compiled.popitem(last=False)
    _compiled.move_to_end(digest)
    return validator
