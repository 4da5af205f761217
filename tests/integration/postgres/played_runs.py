"""Runs played to their end with the inputs their selectors really give: for tests of what is derived from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.canonical_json import canonical_bytes, content_hash
from runengine_server.domain.ids import StepNo
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import ReuseBinding
from runengine_server.domain.states import CacheOutcome, MissReason, OutputSource, PlanAction, PlanReason, TriggerType
from runengine_server.ports.run_reader import StepFilter
from runengine_server.ports.step_queue import Lease, StepExecuted
from runengine_server.service.step_inputs import StepInputs

from .conftest import Made, World

INPUT_CHANGED = CacheDecision(outcome=CacheOutcome.MISS, miss_reason=MissReason.INPUT_CHANGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What steps put out, publish and are told by the cache, by step id; by default who they are, nothing, and that
    their input changed.
    """

    outputs: Mapping[str, JsonObject] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[ProducedArtifact, ...]] = field(default_factory=dict)
    decisions: Mapping[str, CacheDecision] = field(default_factory=dict)
    cache_versions: Mapping[str, str] = field(default_factory=dict)


PLAIN = Script()


async def play(world: World, made: Made, script: Script = PLAIN) -> Made:
    """The run is executed to its end; its steps must be the only ones ready."""
    leases = await world.lease()
    while leases:
        leases = await world.complete(*[await executed(world, lease, script) for lease in leases])
    return made


async def executed(world: World, lease: Lease, script: Script = PLAIN) -> StepExecuted:
    """The lease's skill succeeded, as the script says, with the input it really had."""
    made = world.made[lease.run]
    step_id = made.compiled.workflow.steps[lease.step].step_id
    found = await world.read.reader.steps(
        made.identity, made.compiled.workflow, StepFilter(from_step=lease.step, limit=1)
    )
    assert found is not None
    traced = await StepInputs(world.read, made.identity, made.compiled).traced(lease.step, found.steps[0][1])
    assert traced is not None
    done = world.executed(
        lease,
        *script.artifacts.get(step_id, ()),
        output=script.outputs.get(step_id),
        input_hash=content_hash(canonical_bytes(traced.value)),
    )
    return replace(
        done,
        decision=script.decisions.get(step_id, INPUT_CHANGED),
        cache_version=script.cache_versions.get(step_id, "1"),
    )


async def reuse(world: World, made: Made, *step_ids: str) -> dict[int, ReuseBinding]:
    """What an update of the run records for the steps that it takes over, whoever executed them."""
    numbers = {made.compiled.step_no[step_id]: step_id for step_id in step_ids}  # type: ignore[index]
    results = (await world.store.base_results([made.key]))[made.key]
    return {
        number: ReuseBinding(
            producer_run=results[number].producer_run,
            producer_step=results[number].producer_step,
            producer_run_id=results[number].producer_run_id,
            source=OutputSource.BASE_RUN,
            input_hash=results[number].input_hash,
            cache_version=results[number].cache_version,
            output_hash=results[number].output_hash,
        )
        for number in numbers
    }


async def replan(
    world: World, made: Made, reasons: Mapping[str, PlanReason], *, kind: TriggerType | None = None
) -> None:
    """The run was planned for these reasons; UNAFFECTED for the steps not named."""
    plan = bytearray()
    for number, step in enumerate(made.compiled.workflow.steps):
        reason = reasons.get(step.step_id, PlanReason.UNAFFECTED)
        action = PlanAction.REUSE if reason is PlanReason.UNAFFECTED else PlanAction.UNKNOWN
        plan.append(action * 16 + reason)
        assert StepNo(number) < len(made.compiled.workflow.steps)
    await world.database.fetch("UPDATE runs SET plan = $2 WHERE run = $1", made.key, bytes(plan))
    if kind is not None:
        await world.database.fetch("UPDATE runs SET trigger_type = $2 WHERE run = $1", made.key, int(kind))
