"""One attempt as a pipeline: call the skill, check what it returned, say what follows."""

from random import Random
from typing import Final

import anyio
import orjson
from anyio import to_thread

from runengine_server.domain.cache import CacheEntry, Fingerprint, Producer
from runengine_server.domain.canonical_json import (
    JsonLimitExceeded,
    JsonProblem,
    canonical_bytes,
    content_hash,
    parse_json,
)
from runengine_server.domain.failure import INPUT_INVALID, INTERNAL, OUTPUT_INVALID, OUTPUT_TOO_LARGE, Failure
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.retry import backoff_ms, is_retried, run_failure
from runengine_server.domain.value import value
from runengine_server.domain.workflow import StepDefinition
from runengine_server.planner.payload_schema import SchemaProblem
from runengine_server.planner.skill_schema import INLINE_BYTES_MAX, SkillSchemas, details, summary
from runengine_server.planner.step_input import StepValue
from runengine_server.ports.clock import Clock
from runengine_server.ports.skill_runner import Failed, ProgressListener, SkillCall, SkillInfo, SkillRunner, Succeeded
from runengine_server.ports.step_queue import (
    AttemptFailed,
    CacheFiling,
    Completion,
    Lease,
    StepExecuted,
    StepFailed,
    StepReused,
)
from runengine_server.scheduler.preparation import CannotResolve, Execute, Reuse, cache_key
from runengine_server.scheduler.run_contexts import RunContext
from runengine_server.scheduler.timeouts import AttemptTimeouts

CheckedOutput = tuple[JsonObject, bytes]
"""An output and its canonical bytes."""

_DUE_WITHIN_S: Final = 0.1
_DUE_RUN_ENDS_WITHIN_S: Final = 5.0
"""Engines look for due runs every second and after their leases every third of a lease; later the database is away."""


@value(kw_only=True)
class Settled:
    """What is to be committed for a lease, and what becomes true once it is."""

    completion: Completion
    context: RunContext | None
    duration_ms: int = 0
    value: StepValue | None = None
    size_bytes: int = 0
    entry: CacheEntry | None = None


class AttemptRunner:
    """Runs attempts; holds nothing between them."""

    def __init__(
        self,
        skills: SkillRunner,
        clock: Clock,
        random: Random,
        timeouts: AttemptTimeouts,
    ) -> None:
        """Use what the process shares."""
        self._skills = skills
        self._clock = clock
        self._random = random
        self._timeouts = timeouts
        self._schemas = SkillSchemas()

    async def execute(self, step: Execute, on_progress: ProgressListener) -> Settled:
        """Call the skill and settle its outcome, if its schemas allow both; cancelling the task cancels the call.

        A run that is due is ended by its deadline, not by failures that the deadline causes: those wait for its end.
        """
        if self._is_due(step):
            await anyio.sleep(_DUE_RUN_ENDS_WITHIN_S)
        info = self._info(step)
        if info is not None and info.input_schema is not None:
            problems = await self._problems(info.input_schema, step.input.body)
            if problems:
                return self._input_refused(step, problems)
        begun = self._clock.monotonic()
        outcome = await self._skills.execute(self._call(step), on_progress)
        duration_ms = round((self._clock.monotonic() - begun) * 1000)
        if isinstance(outcome, Failed):
            if self._is_due(step):
                await anyio.sleep(_DUE_RUN_ENDS_WITHIN_S)
            return self._failed(step, outcome, duration_ms)
        checked = _checked_output(outcome.output_json)
        if info is not None and info.output_schema is not None and not isinstance(checked, Failure):
            checked = await self._held_to(info.output_schema, checked)
        return self._succeeded(step, outcome, checked, duration_ms)

    def execute_at_once(self, step: Execute) -> Settled | None:
        """Run and settle a skill that needs no waiting, without the cost of a task; None for every other.

        Checking against schemas may have to wait.
        """
        info = self._info(step)
        if info is not None and (info.input_schema is not None or info.output_schema is not None):
            return None
        begun = self._clock.monotonic()
        outcome = self._skills.execute_at_once(self._call(step))
        if outcome is None:
            return None
        duration_ms = round((self._clock.monotonic() - begun) * 1000)
        if isinstance(outcome, Failed):
            return self._failed(step, outcome, duration_ms)
        return self._succeeded(step, outcome, _checked_output(outcome.output_json), duration_ms)

    def timeout_ms(self, step: Execute) -> int:
        """How long the attempt may take, in milliseconds."""
        return round(self._call(step).timeout_s * 1000)

    async def abandon(self, step: Execute) -> None:
        """Tell the skill's runner that nobody wants the attempt any more."""
        await self._skills.abandon(self._call(step))

    def reuse(self, step: Reuse) -> Settled:
        """Settle a step that uses an existing output."""
        run, number = step.producer
        return Settled(
            completion=StepReused(
                lease=step.lease,
                source=step.source,
                producer_run=run,
                producer_step=number,
                input_hash=step.input.hash,
                cache_version=step.cache_version,
                output_hash=step.output_hash,
                decision=step.decision,
                dependents=self._timeouts.dependents(step.context.compiled, step.lease.step),
                flight=step.flight,
            ),
            context=step.context,
            value=step.value,
            size_bytes=step.size_bytes,
        )

    def cannot_resolve(self, step: CannotResolve) -> Settled:
        """Settle a step without input: a failure that no retry helps, before any skill was tried."""
        return Settled(
            completion=StepFailed(lease=step.lease, failure=step.failure, run_failure=step.failure, is_attempted=False),
            context=step.context,
        )

    def _call(self, step: Execute) -> SkillCall:
        facts, definition = step.context.facts, step.context.compiled.workflow.steps[step.lease.step]
        timeout_s = self._timeouts.timeout_s(definition)
        if step.context.deadline_at_s is not None:
            timeout_s = max(0.001, min(timeout_s, step.context.deadline_at_s - self._clock.monotonic()))
        return SkillCall(
            skill_id=definition.skill_id,
            idempotency_key=f"{facts.run_id}/{definition.step_id}/{step.input.hash}",
            run_id=facts.run_id,
            step_id=definition.step_id,
            attempt=step.lease.attempt,
            fencing_token=step.lease.epoch,
            input_json=step.input.body,
            input_hash=step.input.hash,
            workflow_name=facts.workflow_name,
            tenant=facts.tenant,
            timeout_s=timeout_s,
            trace=facts.trace,
        )

    def _is_due(self, step: Execute) -> bool:
        """True when the deadline of the run has come, or is so near that no attempt can be judged before."""
        due_at_s = step.context.deadline_at_s
        return due_at_s is not None and due_at_s - self._clock.monotonic() < _DUE_WITHIN_S

    def _info(self, step: Execute) -> SkillInfo | None:
        return self._skills.availability(step.context.compiled.workflow.steps[step.lease.step].skill_id).info

    async def _problems(self, schema: JsonObject, body: bytes) -> list[SchemaProblem]:
        """Where a value departs from a schema; a large one is looked at beside the event loop."""
        if len(body) <= INLINE_BYTES_MAX:
            return self._schemas.problems(schema, orjson.loads(body))
        return await to_thread.run_sync(lambda: self._schemas.problems(schema, orjson.loads(body)))

    async def _held_to(self, schema: JsonObject, checked: CheckedOutput) -> CheckedOutput | Failure:
        problems = await self._problems(schema, checked[1])
        if not problems:
            return checked
        message = f"the skill's output does not satisfy the schema it declares: {summary(problems)}"
        return Failure(code=OUTPUT_INVALID, message=message, details=details(problems))

    def _input_refused(self, step: Execute, problems: list[SchemaProblem]) -> Settled:
        """Settle a step whose skill would not accept its input: a failure that no retry helps; no skill was tried."""
        definition = step.context.compiled.workflow.steps[step.lease.step]
        failure = Failure(
            code=INPUT_INVALID,
            message=f"step {definition.step_id}: the input does not satisfy the schema of {definition.skill_id}: "
            f"{summary(problems)}",
            details=details(problems),
            step_id=definition.step_id,
        )
        return Settled(
            completion=StepFailed(
                lease=step.lease,
                failure=failure,
                run_failure=failure,
                is_attempted=False,
                input_hash=step.input.hash,
                decision=step.decision,
            ),
            context=step.context,
        )

    def _succeeded(
        self, step: Execute, outcome: Succeeded, checked: CheckedOutput | Failure, duration_ms: int
    ) -> Settled:
        if isinstance(checked, Failure):
            return self._failed(step, Failed(failure=checked, worker_id=outcome.worker_id), duration_ms)
        output, body = checked
        lease, context = step.lease, step.context
        definition = context.compiled.workflow.steps[lease.step]
        output_hash = content_hash(body)
        fingerprint = self._fingerprint(context, definition, outcome)
        is_filed = step.mode.writes and definition.cache_policy.is_shared and not outcome.do_not_cache
        return Settled(
            completion=StepExecuted(
                lease=lease,
                input_hash=step.input.hash,
                cache_version=fingerprint.cache_version,
                skill_id=definition.skill_id,
                skill_version=outcome.skill_version,
                output=body,
                output_hash=output_hash,
                artifacts=outcome.artifacts,
                decision=step.decision,
                dependents=self._timeouts.dependents(context.compiled, lease.step),
                filing=CacheFiling(
                    workflow_name=context.facts.workflow_name, step_id=definition.step_id, fingerprint=fingerprint
                )
                if is_filed
                else None,
                flight=step.flight,
            ),
            context=context,
            duration_ms=duration_ms,
            value=StepValue(output, tuple(artifact.as_selector_value() for artifact in outcome.artifacts)),
            size_bytes=len(body),
            entry=CacheEntry(
                key=cache_key(context, definition, step.input.hash),
                fingerprint=fingerprint,
                producer=Producer(
                    run=lease.run, step=lease.step, run_id=context.facts.run_id, step_id=definition.step_id
                ),
                output=body,
                output_hash=output_hash,
                artifacts=outcome.artifacts,
                created_at=self._clock.now(),
                generation=step.generation,
            )
            if is_filed
            else None,
        )

    def _fingerprint(self, context: RunContext, definition: StepDefinition, outcome: Succeeded) -> Fingerprint:
        """That of the build that executed; a runner that reports none is taken at its catalogue's word."""
        version = outcome.cache_version or self._skills.availability(definition.skill_id).cache_version or ""
        return Fingerprint(
            skill_id=definition.skill_id, cache_version=version, cache_epoch=context.compiled.workflow.cache_epoch
        )

    def _failed(self, step: Execute, outcome: Failed, duration_ms: int) -> Settled:
        lease, definition = step.lease, step.context.compiled.workflow.steps[step.lease.step]
        failure = Failure(
            code=outcome.failure.code,
            message=outcome.failure.message,
            retryable=outcome.failure.retryable,
            details=outcome.failure.details,
            step_id=definition.step_id,
            attempt=lease.attempt,
        )
        policy = definition.retry_policy
        completion: Completion
        if is_retried(policy, failure, lease.attempt):
            completion = AttemptFailed(
                lease=lease,
                failure=failure,
                delay_ms=backoff_ms(
                    policy, lease.attempt, retry_after_s=outcome.retry_after_s, random=self._random.random()
                ),
                worker_id=outcome.worker_id,
                input_hash=step.input.hash,
                decision=step.decision,
            )
        else:
            completion = StepFailed(
                lease=lease,
                failure=failure,
                run_failure=run_failure(policy, failure, lease.attempt),
                is_attempted=True,
                input_hash=step.input.hash,
                decision=step.decision,
                worker_id=outcome.worker_id,
            )
        return Settled(completion=completion, context=step.context, duration_ms=duration_ms)


def internal_failure(lease: Lease) -> Settled:
    """Settle a lease that the engine itself could not run or store; final, for the same would happen again."""
    failure = Failure(
        code=INTERNAL, message="the engine could not run the step; its log says why", attempt=lease.attempt
    )
    return Settled(
        completion=StepFailed(lease=lease, failure=failure, run_failure=failure, is_attempted=True), context=None
    )


def _checked_output(body: bytes) -> CheckedOutput | Failure:
    try:
        output = parse_json(body)
        if not isinstance(output, dict):
            return Failure(code=OUTPUT_INVALID, message="the skill's output is not a JSON object")
        return output, canonical_bytes(output)
    except JsonLimitExceeded as error:
        return Failure(code=OUTPUT_TOO_LARGE, message=f"the skill's output is {error}; publish an artifact instead")
    except JsonProblem as error:
        return Failure(code=OUTPUT_INVALID, message=f"the skill's output is not valid: {error}")
