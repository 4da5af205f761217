"""What spans say, by the names of docs/tracing.md: ids and outcomes; never payloads, messages, tokens or tenants."""

from collections.abc import Mapping
from typing import Final

from runengine_server.domain.cache import CacheAnswer, CacheDecision, CacheFlight, CacheHit
from runengine_server.domain.states import OutputSource, PlanAction
from runengine_server.domain.workflow import StepDefinition
from runengine_server.ports.run_store import RunFacts
from runengine_server.ports.skill_runner import Outcome, SkillCall, Succeeded
from runengine_server.ports.step_queue import AttemptFailed, Completion, EndedRun, StepExecuted, StepReused

Attributes = Mapping[str, str | int | float | bool]

_CODE_CHARACTERS_MAX: Final = 64


def of_run(facts: RunFacts, ended: EndedRun) -> Attributes:
    """A run and how it ended."""
    return {
        "runengine.run.id": facts.run_id,
        "runengine.workflow.name": facts.workflow_name,
        "runengine.run.status": ended.status.name,
        "runengine.run.steps": len(facts.plan),
        "runengine.run.steps_reused_by_plan": sum(action is PlanAction.REUSE for action, _ in facts.plan),
    }


def of_step(facts: RunFacts, step: StepDefinition, attempt: int) -> dict[str, str | int | float | bool]:
    """One attempt of a step."""
    return {
        "runengine.run.id": facts.run_id,
        "runengine.workflow.name": facts.workflow_name,
        "runengine.step.id": step.step_id,
        "runengine.skill.id": step.skill_id,
        "runengine.attempt": attempt,
    }


def of_completion(completion: Completion) -> Attributes:
    """What became of a step's attempt."""
    found: dict[str, str | int | float | bool] = {"runengine.step.lease_losses": completion.lease.lease_losses}
    if isinstance(completion, StepExecuted):
        found["runengine.output.source"] = OutputSource.EXECUTED.name
    elif isinstance(completion, StepReused):
        found["runengine.output.source"] = completion.source.name
    elif isinstance(completion, AttemptFailed):
        found["runengine.step.retry_delay_ms"] = completion.delay_ms
    return {**found, **_of_decision(completion.decision)}


def of_answer(answer: CacheAnswer) -> Attributes:
    """What the cache said to a step that asked."""
    if isinstance(answer, CacheHit):
        return {"runengine.cache.outcome": "HIT", "runengine.cache.tier": answer.tier.name}
    if isinstance(answer, CacheFlight):
        return {"runengine.cache.outcome": "IN_FLIGHT"}
    if answer.reason is None:
        return {"runengine.cache.outcome": "LOOKUP_FAILED"}
    return {"runengine.cache.outcome": "MISS", "runengine.cache.miss_reason": answer.reason.name}


def of_call(call: SkillCall, outcome: Outcome | None) -> Attributes:
    """A call of a skill; without an outcome where it was given up."""
    attributes: dict[str, str | int | float | bool] = {
        "runengine.run.id": call.run_id,
        "runengine.workflow.name": call.workflow_name,
        "runengine.step.id": call.step_id,
        "runengine.skill.id": call.skill_id,
        "runengine.attempt": call.attempt,
    }
    if isinstance(outcome, Succeeded) and outcome.skill_version:
        attributes["runengine.skill.version"] = error_type(outcome.skill_version)
    return attributes


def error_type(code: str) -> str:
    """The code, unless a skill's server chose one that is no name."""
    return code if len(code) <= _CODE_CHARACTERS_MAX and code.isprintable() else "_OTHER"


def _of_decision(decision: CacheDecision | None) -> Attributes:
    if decision is None:
        return {}
    found = {"runengine.cache.outcome": decision.outcome.name}
    if decision.tier is not None:
        found["runengine.cache.tier"] = decision.tier.name
    if decision.miss_reason is not None:
        found["runengine.cache.miss_reason"] = decision.miss_reason.name
    return found
