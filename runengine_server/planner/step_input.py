"""A step's input: its selector resolved against the run, in canonical bytes with their hash."""

from collections.abc import Callable, Iterable, Sequence

import orjson

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.canonical_json import content_hash
from runengine_server.domain.failure import INPUT_SELECTOR_FAILED, Failure
from runengine_server.domain.ids import StepNo
from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.value import value
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.selector import SelectorFailed


@value()
class StepValue:
    """What selectors see of a finished step: its output and its artifacts' selector values."""

    output: JsonValue
    artifacts: Sequence[JsonObject] = ()


def stored_value(body: bytes, artifacts: Iterable[ProducedArtifact]) -> StepValue:
    """What selectors see of an output in canonical bytes and of what was published with it."""
    return StepValue(orjson.loads(body), tuple(artifact.as_selector_value() for artifact in artifacts))


@value(kw_only=True)
class RunScope:
    """A SelectorScope over a run; `value_of` gives what a step that is read has produced."""

    trigger: JsonObject
    change: JsonValue
    run: JsonObject
    value_of: Callable[[str], StepValue]

    def step_output(self, step_id: str) -> JsonValue:
        """The output of an ancestor."""
        return self.value_of(step_id).output

    def step_artifacts(self, step_id: str) -> Sequence[JsonObject]:
        """The artifacts of an ancestor."""
        return self.value_of(step_id).artifacts


def change_value(change: ChangeRequest | None) -> JsonValue:
    """What selectors see as `change`: null for an initial run."""
    return None if change is None else {"type": change.type, "payload": change.payload}


@value()
class StepInput:
    """The bytes that are hashed, sent to the skill and cached under."""

    body: bytes
    hash: str


def resolve_input(compiled: CompiledWorkflow, step: StepNo, scope: RunScope) -> StepInput | Failure:
    """The step's input, or the failure that names step, pointer and expression."""
    definition = compiled.workflow.steps[step]
    try:
        _, body = compiled.selectors[step].resolve_canonical(scope)
    except SelectorFailed as error:
        return Failure(
            code=INPUT_SELECTOR_FAILED,
            message=f"step {definition.step_id}: {error}",
            details={"stepId": definition.step_id, "pointer": error.pointer, "expression": error.expression},
            step_id=definition.step_id,
        )
    return StepInput(body, content_hash(body))
