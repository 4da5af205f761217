"""Judges a simulated history: the tables by their invariants, plans and reuse by the oracle."""

import orjson

from runengine_server.adapters.memory.tables import RunRecord
from runengine_server.domain.ids import Place, RunKey, StepNo
from runengine_server.domain.states import TriggerType

from ..support.rebuild_oracle import problems
from ..support.rebuild_seen import Seen, SeenRun, SeenStep
from .clients import Clients
from .invariants import violations
from .world import World


def verdict(world: World, clients: Clients) -> list[str]:
    """Everything that is wrong with a history that has ended."""
    if live := world.live_runs():
        return [f"runs {live} never end", *world.failures]
    changed = [
        f"run {run_id} was built on and has changed"
        for run_id, was in clients.built_on.items()
        if was != world.stored(run_id)
    ]
    return [
        *world.failures,
        *clients.differing,
        *changed,
        *violations(world.tables, dict(world.models), world.skills),
        *problems(seen(world)),
    ]


def seen(world: World) -> Seen:
    """The history as the oracle wants to see it."""
    tables = world.tables
    told = Seen(filings=world.filings, versions=world.skills.versions, lag_s=world.lag_s)
    for key, run in tables.runs.items():
        told.runs[run.new.id] = _run(world, key, run)
    for place, body in tables.outputs.items():
        producer = _name(world, place)
        told.outputs[producer] = body
        told.artifacts[producer] = [artifact.as_selector_value() for artifact in tables.artifacts[place]]
    return told


def _run(world: World, key: RunKey, run: RunRecord) -> SeenRun:
    new, tables = run.new, world.tables
    model, asked = world.models[new.workflow_digest], world.asked[new.id]
    return SeenRun(
        run_id=new.id,
        model=model,
        payload=orjson.loads(new.payload),
        change={"type": new.change.type, "payload": new.change.payload} if new.change else None,
        mode=new.cache_mode,
        base=tables.runs[new.base_run].new.id if new.base_run is not None else None,
        is_retry=new.trigger_type is TriggerType.RETRY,
        seeds=model.seeds(new.change.type) if new.change else frozenset(),
        forced=frozenset(getattr(asked.request, "force_step_ids", ())),
        is_strict=getattr(asked.request, "strict_impact", False),
        plan={step.step_id: step for step in new.plan},
        status=run.status,
        planned_since=asked.since,
        created_at=run.created_at,
        steps={
            step.step_id: _step(world, (key, StepNo(number)))
            for number, step in enumerate(new.plan)
            if (key, number) in tables.results
        },
    )


def _step(world: World, place: Place) -> SeenStep:
    result = world.tables.results[place]
    return SeenStep(
        status=result.status,
        source=result.source,
        producer=None if result.producer is None else _name(world, result.producer),
        input_hash=result.input_hash,
        cache_version=result.cache_version,
        output_hash=result.output_hash,
        started_at=result.started_at,
        ended_at=result.ended_at,
    )


def _name(world: World, place: Place) -> tuple[str, str]:
    run = world.tables.runs[place[0]]
    return run.new.id, run.new.plan[place[1]].step_id
