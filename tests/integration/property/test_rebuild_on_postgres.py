"""Random rebuilds on a real PostgreSQL, two engines side by side: the same promises, judged by the same oracle."""

import os
import time
from dataclasses import replace
from random import Random
from typing import Any

import anyio
import asyncpg
import pytest

from runengine_server.domain.errors import ChangedError, PreconditionError
from runengine_server.domain.states import RunStatus
from runengine_server.service.retry_run import retry_run
from runengine_server.service.start_run import StartRuns
from runengine_server.service.trigger_run import trigger_run
from runengine_server.service.trigger_update import trigger_update

from ...simulation.engine import CALLER
from ...simulation.skills import SkillFaults
from ...simulation.world import Asked
from ...support.invariants import check_invariants, report, run_fingerprints
from ...support.random_requests import random_retry, random_trigger, random_update, repeated
from ...support.random_workflows import random_model, random_next_version
from ...support.rebuild_oracle import problems
from .fleet import ASKED, Fleet, running_fleet

pytestmark = pytest.mark.anyio

SEEDS = 500 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 30
ROUNDS = 4
AT_ONCE = 3


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_runs_stay_within_their_plans(database_url: str, seed: int) -> None:
    """Runs, updates, retries and new versions, several at once, keep every promise of SPEC §4 and every invariant."""
    random = Random(seed)
    models = [random_model(random, steps_max=8)]
    if random.random() < 0.5:
        models.append(random_next_version(random, models[0]))
    faults = SkillFaults(retryable=0.05, final=random.choice([0.0, 0.05]))
    async with running_fleet(database_url, random, models, faults) as fleet:
        was: dict[str, str] = {}
        for _ in range(ROUNDS):
            ended = await fleet.ended()
            was |= await _fingerprints(database_url, [run_id for runs in ended.values() for run_id, _ in runs])
            if random.random() < 0.3:
                skill_id = random.choice(list(fleet.skills.versions))
                fleet.declare(skill_id, random.choice(["1", "2"]))
            async with anyio.create_task_group() as clients:
                for _ in range(random.randint(1, AT_ONCE)):
                    use_case, request = _wish(fleet, random, ended)
                    clients.start_soon(_ask, fleet, random.choice(fleet.starts), use_case, request)
                    if random.random() < 0.5:  # somebody else's, too: what is in flight is joined
                        clients.start_soon(_ask, fleet, random.choice(fleet.starts), use_case, repeated(request))
        await fleet.ended()
        assert not fleet.observer.failures
        wrong = problems(await fleet.seen())
    assert not wrong, "\n".join(wrong)
    connection = await asyncpg.connect(database_url)
    try:
        violations = await check_invariants(connection, unchanged=was)
    finally:
        await connection.close()
    assert not violations, report(violations)


def _wish(fleet: Fleet, random: Random, ended: Any) -> tuple[Any, Any]:
    """A use case, and a request for it."""
    versions = {model.workflow.version: model for model in fleet.models.values()}
    bases, unfinished = ended.get(RunStatus.COMPLETED, []), ended.get(RunStatus.FAILED, [])
    if unfinished and random.random() < 0.4:
        run_id, _ = random.choice(unfinished)
        return retry_run, random_retry(random, run_id)
    if bases and random.random() < 0.8:
        return trigger_update, random_update(random, versions, *random.choice(bases))
    return trigger_run, random_trigger(random, versions)


async def _ask(fleet: Fleet, start: StartRuns, use_case: Any, request: Any) -> None:
    """Ask for the plan, then for the run: they are the same, if nothing else happens meanwhile."""
    ASKED.set(Asked(request=request, since=time.time()))
    filed = len(fleet.queue.filed)
    try:
        dry = await use_case(start, CALLER, replace(request, validate_only=True))
        made = await use_case(start, CALLER, request)
    except (PreconditionError, ChangedError) as refusal:
        assert refusal.reason == "IMPACT_WIDENED"
        return
    if filed == len(fleet.queue.filed) and made.plan is not None:
        assert dry.plan.digest == made.plan.digest


async def _fingerprints(database_url: str, run_ids: list[str]) -> dict[str, str]:
    connection = await asyncpg.connect(database_url)
    try:
        return await run_fingerprints(connection, run_ids)
    finally:
        await connection.close()
