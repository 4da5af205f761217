"""What a base run gave its steps, derived again and checked, and where that differs from what they get now."""

from collections.abc import Mapping, Sequence
from typing import Final

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.canonical_json import content_hash
from runengine_server.domain.ids import Place, StepId, StepNo
from runengine_server.domain.json_pointer import changed_pointers
from runengine_server.domain.json_value import JsonValue
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.selector import SelectorFailed
from runengine_server.planner.step_input import RunScope, StepValue, change_value

POINTERS_MAX: Final = 16
"""Of one step in a plan, as its causes; a person reads them."""

POINTER_CHARS_MAX: Final = 256
"""Member names are the caller's; a longer pointer is cut to the nearest place above that fits."""

PAYLOAD_CHANGES_MAX: Final = 64


class BaseInputs:
    """What the steps of a base run were given; steps are numbered as in the base's own version."""

    def __init__(self, base: BaseRun, compiled: CompiledWorkflow) -> None:
        """Derive from the base's payload, change, definition and outputs."""
        self._base = base
        self._compiled = compiled

    def places(self, step: StepNo) -> Sequence[Place]:
        """Who produced what the step read; without those that the base has no output of."""
        results = self._base.results
        return [
            (results[read].producer_run, results[read].producer_step)
            for read in self._compiled.reads[step]
            if read in results
        ]

    def input(self, step: StepNo, values: Mapping[Place, StepValue]) -> JsonValue:
        """The step's input; None when it cannot be derived, or not to the hash it was recorded with."""
        result = self._base.results[step]
        scope = RunScope(
            trigger=self._base.payload,
            change=change_value(self._base.change),
            # whoever executed the step gave it its own id
            run={"id": result.producer_run_id, "workflowName": self._base.workflow_name},
            value_of=lambda step_id: values[self._place(self._compiled.step_no[StepId(step_id)])],
        )
        try:
            value, body = self._compiled.selectors[step].resolve_canonical(scope)
        except (SelectorFailed, KeyError):
            return None
        return value if content_hash(body) == result.input_hash else None

    def _place(self, step: StepNo) -> Place:
        result = self._base.results[step]
        return result.producer_run, result.producer_step


def input_changes(before: JsonValue, after: JsonValue) -> tuple[str, ...]:
    """Return the pointers at which two inputs differ, sorted, at most 16 and none longer than 256 characters."""
    return shown_pointers(changed_pointers(before, after, limit=POINTERS_MAX))


def shown_pointers(pointers: Sequence[str]) -> tuple[str, ...]:
    """Return the pointers as a plan shows them."""
    return tuple(sorted({_shortened(pointer) for pointer in pointers}))[:POINTERS_MAX]


def payload_changes(before: JsonValue, after: JsonValue) -> list[str]:
    """Return where two payloads differ; the whole payload when that is in more places than are worth listing."""
    changed = changed_pointers(before, after, limit=PAYLOAD_CHANGES_MAX)
    return changed if len(changed) < PAYLOAD_CHANGES_MAX else [""]


def _shortened(pointer: str) -> str:
    while len(pointer) > POINTER_CHARS_MAX:
        pointer = pointer.rpartition("/")[0]
    return pointer
