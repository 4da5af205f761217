"""Runs that ended days ago, and passes of retention over them."""

from dataclasses import dataclass

import asyncpg

from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.retention import Deleted, Retention, RetentionSettings
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.domain.cache import CacheHit, CacheKey, CacheQuery, Fingerprint
from runengine_server.domain.ids import EngineNo, StepId
from runengine_server.domain.workflow import Workflow

from ...support.hand_driven import TENANT, CreateOptions, DrivenRun, HandDriven, dag, file_named
from ...support.invariants import check_invariants, report

DAY_S = 24 * 3600.0
KEPT = RetentionSettings(runs_s=30 * DAY_S, events_s=7 * DAY_S, audit_s=365 * DAY_S)
HISTORY = ("run_events", "step_attempts", "step_results", "outputs", "artifacts")
DIAMOND = dag("diamond", [[], [0], [0], [1, 2]])


@dataclass(slots=True, kw_only=True)
class Past:
    """Runs that ended as many days ago as a test says, and passes over them."""

    driven: HandDriven
    engine: EngineNo
    settings: RetentionSettings = KEPT

    async def run(
        self,
        days_ago: float,
        workflow: Workflow = DIAMOND,
        options: CreateOptions = CreateOptions(),  # noqa: B008 - frozen
        *,
        variant: str = "",
        is_filed: bool = False,
    ) -> DrivenRun:
        """A completed run, whose last step has two artifacts and whose second was tried twice."""
        run = await self.driven.started(workflow, options, variant=variant)
        await self.finish(run, is_filed=is_filed)
        await self.age(run, days_ago)
        return run

    async def finish(self, run: DrivenRun, *, is_filed: bool = False) -> None:
        """Execute what is left of the run, whose steps are the only ones ready."""
        last = len(run.compiled.workflow.steps) - 1
        leases = await self.driven.lease(self.engine)
        while leases:
            batch = [
                self.driven.attempt_failed(lease)
                if (lease.step, lease.attempt) == (1, 1)
                else self.driven.executed(
                    lease,
                    *([file_named(f"mix{run.variant}"), file_named("cover")] if lease.step == last else []),
                    is_filed=is_filed,
                )
                for lease in leases
            ]
            leases = list((await self.driven.queue.tick(self.engine, batch, 100)).leases)

    async def age(self, run: DrivenRun, days: float) -> None:
        """The run, all of it, was so many days earlier."""
        for statement in (
            "UPDATE step_cache AS c SET created_at = c.created_at - make_interval(secs => $2) FROM step_results AS s"
            " WHERE c.run = $1 AND s.run = c.run AND s.step = c.step AND s.ended_at = c.created_at",
            "UPDATE runs SET created_at = created_at - make_interval(secs => $2) WHERE run = $1",
            "UPDATE run_progress SET ended_at = ended_at - make_interval(secs => $2) WHERE run = $1",
            "UPDATE step_results SET ended_at = ended_at - make_interval(secs => $2) WHERE run = $1",
        ):
            await self.driven.database.fetch(statement, run.key, days * DAY_S)

    async def retire(self) -> Deleted:
        """A pass; it leaves nothing that violates an invariant."""
        await self.driven.database.fetch("DELETE FROM housekeeping")
        deleted = await Retention(self.driven.database, self.settings, ObserverGroup([])).run_if_due()
        assert deleted is not None
        await self.check()
        return deleted

    async def retire_later(self) -> Deleted:
        """A pass after so long that it looks at everything that was deleted before."""
        await self.driven.database.fetch("UPDATE deleted_runs SET next_at = now()")
        return await self.retire()

    async def check(self) -> None:
        """No invariant is violated."""
        connection = await asyncpg.connect(self.driven.url)
        try:
            violations = await check_invariants(connection)
        finally:
            await connection.close()
        assert not violations, report(violations)

    async def rows(self, run: DrivenRun) -> dict[str, int]:
        """How many rows of the run each table of the history has, where it has any."""
        counts = {
            table: await self.driven.database.fetchval(f"SELECT count(*) FROM {table} WHERE run = $1", run.key)
            for table in ("runs", "run_progress", "run_state", "idempotency_keys", "deleted_runs", *HISTORY)
        }
        return {table: count for table, count in counts.items() if count}

    async def hits(self, run: DrivenRun, steps: int) -> list[CacheHit]:
        """What the cold cache has for the first steps of the run."""
        workflow = run.compiled.workflow
        queries = [
            CacheQuery(
                key=CacheKey(
                    tenant=TENANT,
                    workflow_name=workflow.name,
                    step_id=StepId(workflow.steps[n].step_id),
                    input_hash=self.driven.binding(run, n).input_hash,
                ),
                fingerprint=Fingerprint(skill_id=workflow.steps[n].skill_id, cache_version="1", cache_epoch=""),
                hot_ttl_s=3600,
            )
            for n in range(steps)
        ]
        answers = await PostgresOutputCache(self.driven.database).lookup(queries)
        return [answer for answer in answers if isinstance(answer, CacheHit)]
