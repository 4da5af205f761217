"""How long an attempt may take, and what a finished step tells the queue about those that waited for it."""

from runengine_server.domain.ids import StepNo, WorkflowDigest
from runengine_server.domain.workflow import StepDefinition
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.ports.clock import Clock
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.ports.step_queue import Dependents

# A runner's list of skills is read again every 30 s: what was derived from it is not kept longer.
KEPT_S = 30.0


class AttemptTimeouts:
    """Timeouts by step, and dependents with theirs, kept a short while since the hot path asks for every step."""

    def __init__(self, skills: SkillRunner, clock: Clock) -> None:
        """Ask `skills` for defaults."""
        self._skills = skills
        self._clock = clock
        self._dependents: dict[tuple[WorkflowDigest, StepNo], Dependents] = {}
        self._kept_until = 0.0

    def timeout_s(self, definition: StepDefinition) -> float:
        """An attempt's timeout in seconds."""
        return definition.attempt_timeout_s(self._skills.availability(definition.skill_id).default_timeout_s)

    def lease_timeout_ms(self, definition: StepDefinition) -> int:
        """How long a lease of the step may last, in milliseconds."""
        known = self._skills.availability(definition.skill_id)
        return definition.lease_timeout_ms(known.default_timeout_s, is_skill_known=known.info is not None)

    def dependents(self, compiled: CompiledWorkflow, step: StepNo) -> Dependents:
        """The steps that wait for a step, with how long a lease of each may last."""
        now = self._clock.monotonic()
        if now >= self._kept_until:
            self._dependents.clear()
            self._kept_until = now + KEPT_S
        key = (compiled.workflow.digest, step)
        found = self._dependents.get(key)
        if found is None:
            steps = compiled.dependents[step]
            found = self._dependents[key] = Dependents(
                steps, tuple(self.lease_timeout_ms(compiled.workflow.steps[s]) for s in steps)
            )
        return found
