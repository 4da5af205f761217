"""What an expression can see: the run, its payload and change, and the results of earlier steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runengine_server.domain.json_value import JsonObject, JsonValue

ARTIFACT_FIELDS = frozenset({"type", "uri", "contentHash", "sizeBytes", "filename", "metadata"})
CHANGE_FIELDS = frozenset({"type", "payload"})
RUN_FIELDS = frozenset({"id", "workflowName"})


class SelectorScope(Protocol):
    """The values behind the names of the language; all numbers normalised (integral ones are int)."""

    @property
    def trigger(self) -> JsonObject:
        """The effective payload; empty without one."""
        ...

    @property
    def change(self) -> JsonValue:
        """The change request as `{type, payload}`; null for an initial run."""
        ...

    @property
    def run(self) -> JsonObject:
        """Exactly `{id, workflowName}`."""
        ...

    def step_output(self, step_id: str) -> JsonValue:
        """Return the output of a completed or skipped ancestor; called only when an expression reads it."""
        ...

    def step_artifacts(self, step_id: str) -> Sequence[JsonObject]:
        """Return the ancestor's artifacts, each with `ARTIFACT_FIELDS` only; called only when read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedScope:
    """A scope whose values are all at hand."""

    trigger: JsonObject = field(default_factory=dict)
    change: JsonValue = None
    run: JsonObject = field(default_factory=dict)
    outputs: Mapping[str, JsonValue] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[JsonObject]] = field(default_factory=dict)

    def step_output(self, step_id: str) -> JsonValue:
        """Return the step's output.

        Raises:
            KeyError: the scope has no such step; the caller planned with another definition.
        """
        return self.outputs[step_id]

    def step_artifacts(self, step_id: str) -> Sequence[JsonObject]:
        """Return the step's artifacts, none when the scope has none."""
        return self.artifacts.get(step_id, ())
