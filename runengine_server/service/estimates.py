"""What a plan's steps took before: in the newest runs of the workflow, else in the base run."""

from dataclasses import dataclass
from typing import Final

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.ids import RunKey, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.plan import RebuildPlan
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.estimates import steps_to_estimate, with_estimates
from runengine_server.planner.version_match import continued_steps
from runengine_server.ports.run_store import RunStore
from runengine_server.service.workflow_catalogue import WorkflowCatalogue

# The newest one nearly always has every step: a completed run knows of each who executed it, however long ago.
_RUNS_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Where to look: a tenant's runs, the versions they were of, and the run to build on."""

    store: RunStore
    versions: WorkflowCatalogue
    tenant: Tenant
    base: BaseRun | None


async def estimated(plan: RebuildPlan, compiled: CompiledWorkflow, history: History) -> RebuildPlan:
    """Return the plan with estimates, which are no part of its digest; one query a run, two runs as a rule."""
    wanted = steps_to_estimate(plan)
    whole: dict[StepNo, float] = {}
    resumed: dict[StepNo, float] = {}
    for run, digest in await _runs(compiled, history) if wanted else ():
        wanted = [step for step in wanted if step not in whole]
        if not wanted:
            break
        steps = await _numbers_in(digest, compiled, history)
        places = {(run, steps[step]): step for step in wanted if step in steps}
        for place, took in (await history.store.durations(list(places))).items():
            (resumed if took.is_resumed else whole).setdefault(places[place], took.seconds)
    return with_estimates(plan, compiled, {**resumed, **whole})


async def _runs(compiled: CompiledWorkflow, history: History) -> list[tuple[RunKey, WorkflowDigest]]:
    runs = dict(await history.store.recent_runs(history.tenant, compiled.workflow.name, _RUNS_MAX))
    if history.base is not None:
        runs[history.base.run] = history.base.workflow_digest
    return list(runs.items())


async def _numbers_in(digest: WorkflowDigest, compiled: CompiledWorkflow, history: History) -> dict[StepNo, StepNo]:
    if digest == compiled.workflow.digest:
        return dict(zip(compiled.order, compiled.order, strict=True))
    return dict(continued_steps(await history.versions.compiled(digest), compiled))
