"""A workflow written down twice: as the engine reads it, and as plain functions that say what each input must be.

The second form knows nothing of selectors, canonical JSON or planning: what the engine does can be judged by it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runengine_server.domain.states import CacheMode
from runengine_server.domain.workflow import ChangeRule, StepDefinition, Workflow


class MissingPathError(Exception):
    """An expression reads something that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the expressions of one step see; outputs and artifacts by step id, those of finished steps."""

    payload: Mapping[str, Any]
    change: Mapping[str, Any] | None
    run_id: str
    outputs: Mapping[str, Any]
    artifacts: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """An expression of a selector, what it means, and the steps it reads."""

    text: str
    value: Callable[[View], Any]
    reads: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillModel:
    """How a skill behaves.

    Attributes:
        variety: how many different outputs it has; 1 is a constant, None never gives the same output twice.
        publishes: whether it publishes an artifact, whose content follows from the output.
        limit: how many attempts its runner takes at once, 0 for any number.
        is_inline: answers at once.
        is_cacheable: False when it asks that its outputs are not kept.
    """

    variety: int | None
    publishes: bool = False
    limit: int = 0
    is_inline: bool = False
    is_cacheable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StepModel:
    """A step: its definition, its selector's leaves by name, its skill."""

    definition: StepDefinition
    leaves: Mapping[str, Leaf]
    skill: SkillModel

    @property
    def reads(self) -> frozenset[str]:
        """The steps whose output or artifacts the step reads."""
        return frozenset().union(*(leaf.reads for leaf in self.leaves.values()))

    @property
    def needs(self) -> frozenset[str]:
        """The steps that must have finished before this one starts."""
        return self.reads | set(self.definition.depends_on)

    def input(self, view: View) -> dict[str, Any]:
        """The step's input.

        Raises:
            MissingPathError: there is none.
        """
        return {name: leaf.value(view) for name, leaf in self.leaves.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowModel:
    """A workflow and its steps by id, in definition order, which is a topological one."""

    workflow: Workflow
    steps: Mapping[str, StepModel]

    def rule(self, change_type: str) -> ChangeRule:
        """The rule of a change type."""
        return next(rule for rule in self.workflow.change_rules if rule.type == change_type)

    def seeds(self, change_type: str) -> frozenset[str]:
        """The steps a change type starts from."""
        seeds = self.rule(change_type).seed_step_ids
        return frozenset(self.steps) if "*" in seeds else frozenset(seeds)

    def downstream(self, seeds: frozenset[str]) -> frozenset[str]:
        """The seeds and everything that needs them, directly or not."""
        reached = set(seeds)
        for name, step in self.steps.items():
            if step.needs & reached:
                reached.add(name)
        return frozenset(reached)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change request as a caller sends it."""

    type: str
    payload: Mapping[str, Any]
    mode: CacheMode | None = None

    @property
    def seen(self) -> dict[str, Any]:
        """What selectors see of it."""
        return {"type": self.type, "payload": dict(self.payload)}


def digest(value: Any) -> str:
    """The SHA-256 of a value as RFC 8785 writes it; it has only plain strings, small integers, lists and objects."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def patched(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396, for objects."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = patched(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result
