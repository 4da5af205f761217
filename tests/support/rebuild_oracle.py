"""What SPEC §4 promises of plans and runs, derived anew from what a test saw: the judge of simulated and random runs.

It knows nothing of planner or scheduler. Whether the cache had an entry at some moment is known only as well as the
moment is: what was filed, or declared by a skill, within a window may or may not have been seen.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping

import orjson

from runengine_server.domain.plan import PlannedStep
from runengine_server.domain.states import (
    CacheMode,
    OutputSource,
    PlanAction,
    PlanReason,
    RunStatus,
    StepStatus,
)

from .rebuild_seen import Filing, Seen, SeenRun, SeenStep
from .workflow_model import MissingPathError, StepModel, View, digest

_SUCCESSES = (StepStatus.COMPLETED, StepStatus.SKIPPED)
_FROM_CACHE = (OutputSource.CACHE_HOT, OutputSource.CACHE_COLD)


def problems(seen: Seen) -> list[str]:
    """Everything that is not as SPEC §4 has it, each with its run and step."""
    return [f"run {run.run_id}: {problem}" for run in seen.runs.values() for problem in _run_problems(seen, run)]


def _run_problems(seen: Seen, run: SeenRun) -> Iterator[str]:
    judge = _Judge(seen, run)
    impact = judge.expected_impact()
    for name in run.model.steps:
        yield from (f"step {name} is planned {_told(run.plan[name])}, {p}" for p in judge.plan_problems(name, impact))
        ended = run.steps.get(name)
        if ended is not None and ended.status in _SUCCESSES:
            where = f"step {name} {ended.status.name} {ended.source.name if ended.source else ''}"
            yield from (f"{where}: {p}" for p in judge.reuse_problems(name, ended))
            yield from (f"{where}: {p}" for p in judge.outcome_problems(name, ended))
    if run.status is RunStatus.COMPLETED and len(run.steps) != len(run.model.steps):
        yield "is completed without an end of every step"


def _told(planned: PlannedStep) -> str:
    return f"{planned.action.name} {planned.reason.name}"


class _Judge:
    """One run against what was seen."""

    def __init__(self, seen: Seen, run: SeenRun) -> None:
        self._seen = seen
        self._run = run
        self._steps = run.model.steps
        self._base = base = seen.runs[run.base] if run.base is not None else None
        self._results = {
            name: ended
            for name, ended in (base.steps.items() if base else ())
            if ended.status in _SUCCESSES and name in self._steps
        }

    def expected_impact(self) -> dict[str, PlanReason]:
        """Which steps the run affects and why; nothing said of a step means that it does not."""
        if self._base is None:
            impact = dict.fromkeys(self._steps, PlanReason.INITIAL)
            return impact | dict.fromkeys(self._run.forced, PlanReason.FORCED)
        missing = frozenset(self._steps) - self._results.keys()
        if self._run.is_retry:
            return {name: self._retried_reason(self._base.plan[name].reason) for name in missing}
        model, run = self._run.model, self._run
        changed = frozenset(name for name in self._steps if name in self._base.model.steps and self._is_changed(name))
        causes = missing | changed | run.seeds | run.forced
        impact = dict.fromkeys(model.downstream(causes), PlanReason.DOWNSTREAM)
        for names, reason in (
            (missing, PlanReason.NO_BASE_OUTPUT),
            (changed, PlanReason.DEFINITION_CHANGED),
            (run.seeds, PlanReason.SEED),
            (run.forced, PlanReason.FORCED),
        ):
            impact |= dict.fromkeys(names, reason)
        for name, step in self._steps.items():  # in topological order
            if name in impact:
                continue
            base = self._results[name]
            assert base.producer is not None
            if self._input_hash(step, base.producer[0], self._inherited) != base.input_hash:
                fresh = model.downstream(frozenset({name})) - set(impact)
                impact |= dict.fromkeys(fresh, PlanReason.DOWNSTREAM)
                impact[name] = PlanReason.WIDENED
        return impact

    def _retried_reason(self, before: PlanReason) -> PlanReason:
        """Why a retry runs a step: what had to be refreshed still has to, for the same reason."""
        is_first = before in (PlanReason.INITIAL, PlanReason.SEED)
        is_refreshed = before is PlanReason.FORCED or (is_first and self._run.mode is CacheMode.REFRESH)
        return before if is_refreshed else PlanReason.NO_BASE_OUTPUT

    def _is_changed(self, name: str) -> bool:
        assert self._base is not None
        now, before = self._steps[name], self._base.model.steps[name]
        return (
            now.definition.skill_id != before.definition.skill_id
            or {key: leaf.text for key, leaf in now.leaves.items()}
            != {key: leaf.text for key, leaf in before.leaves.items()}
            or set(now.definition.depends_on) != set(before.definition.depends_on)
            or now.definition.cache_policy.scope is not before.definition.cache_policy.scope
        )

    def _comparable(self, name: str) -> SeenStep | None:
        """What the base has of a step, if it was made by the same skill in the same epoch."""
        if self._base is None or name not in self._results:
            return None
        now, before = self._run.model, self._base.model
        is_same = now.steps[name].definition.skill_id == before.steps[name].definition.skill_id
        return self._results[name] if is_same and now.workflow.cache_epoch == before.workflow.cache_epoch else None

    def _fits(self, filing: Filing, step: StepModel, versions: set[str | None]) -> bool:
        """Whether an entry has the fingerprint that a step asks for."""
        epoch = self._run.model.workflow.cache_epoch
        return (filing.skill_id, filing.cache_epoch) == (step.definition.skill_id, epoch) and (
            filing.cache_version in versions
        )

    def _answers(
        self, step: StepModel, input_hash: str, since: float, until: float, *, filed_after: float = -math.inf
    ) -> tuple[bool, bool]:
        """Whether the cache, asked at some moment of a window, could have had a hit, and whether a miss."""
        versions = self._seen.declared(step.definition.skill_id, since, until)
        filed = self._seen.filed(step.definition.step_id, input_hash)
        newest = [f for f in filed if filed_after < f.at and f.visible_at < since and f.removed_at > until][-1:]
        meanwhile = [f for f in filed if since <= f.visible_at and f.at <= until]
        # The hot tier may still have what the cold one has replaced, so that any earlier entry may be found.
        can_hit = any(self._fits(f, step, versions) for f in filed if f.at <= until and f.removed_at >= since)
        is_sure = bool(newest) and len(versions) == 1 and self._fits(newest[0], step, versions) and not meanwhile
        return can_hit, not is_sure

    def plan_problems(self, name: str, impact: Mapping[str, PlanReason]) -> Iterator[str]:
        """What is wrong with the plan of a step."""
        planned, step = self._run.plan[name], self._steps[name]
        if name not in impact:
            inherited = self._results.get(name)
            if _told(planned) != "REUSE UNAFFECTED" or inherited is None or _producer(planned) != inherited.producer:
                yield "though nothing that it reads has changed"
            return
        if planned.reason is PlanReason.WIDENED and self._run.is_strict:
            yield "though that was to be refused"
        if planned.action is not PlanAction.REUSE and planned.reason is not impact[name]:
            yield f"though it is {impact[name].name}"
        if self._is_refreshed(name):
            if planned.action is not PlanAction.EXECUTE:
                yield "though nothing may be read"
            return
        cached = PlanReason.WIDENED if impact[name] is PlanReason.WIDENED else PlanReason.CACHED
        allowed = set(self._actions(name, step, cached))
        if (planned.action, planned.reason if planned.action is PlanAction.REUSE else None) not in allowed:
            yield f"not one of {sorted((a.name, r.name if r else '') for a, r in allowed)}"
        base = self._comparable(name)
        if planned.reason is PlanReason.INPUT_UNCHANGED and (base is None or _producer(planned) != base.producer):
            yield "but is bound to another producer than the base's"
        if planned.action is PlanAction.REUSE and planned.reason is cached:
            run = self._run
            versions = self._seen.declared(step.definition.skill_id, run.planned_since, run.created_at)
            entries = self._seen.filed(name, self._input_hash(step, run.run_id, self._planned_producer))
            known = [f for f in entries if f.at <= run.created_at and f.removed_at >= run.planned_since]
            if not any(f.producer == _producer(planned) and self._fits(f, step, versions) for f in known):
                yield "but is bound to no entry of the cache"

    def reuse_problems(self, name: str, ended: SeenStep) -> Iterator[str]:
        """Whatever was reused: it is its producer's, byte for byte, and made from the input that this run has."""
        assert ended.producer is not None
        made = self._seen.runs[ended.producer[0]].steps.get(ended.producer[1])
        body = self._seen.outputs.get(ended.producer)
        if made is None or made.status is not StepStatus.COMPLETED or body is None:
            yield f"its producer {ended.producer} executed nothing"
            return
        if (ended.status is StepStatus.COMPLETED) is not (ended.producer == (self._run.run_id, name)):
            yield f"its producer is {ended.producer}"
        if hashlib.sha256(body).hexdigest() != ended.output_hash or made.output_hash != ended.output_hash:
            yield "its output is not its producer's"
        if made.input_hash != ended.input_hash:
            yield "its producer was given another input"
        if any(self._run.steps[read].producer is None for read in self._steps[name].reads):
            yield "it has a result although what it reads has none"
            return
        seen_by = {self._run.run_id, ended.producer[0]}
        if ended.input_hash not in {self._input_hash(self._steps[name], by, self._actual_producer) for by in seen_by}:
            yield "its input is not what its selector says"

    def outcome_problems(self, name: str, ended: SeenStep) -> Iterator[str]:
        """What was done with a step beyond its plan."""
        planned = self._run.plan[name]
        if planned.action is PlanAction.REUSE:
            binding = planned.binding
            assert binding is not None
            if (ended.status, ended.source, ended.producer) != (
                StepStatus.SKIPPED, binding.source, _producer(planned)
            ):  # fmt: skip
                yield f"planned to be reused from {_producer(planned)}"
            return
        match ended.source:
            case OutputSource.EXECUTED:
                yield from self._executed_problems(name, ended)
            case OutputSource.BASE_RUN:
                if planned.action is PlanAction.EXECUTE:
                    yield "planned to be executed"
                if self._base_if_same(name, ended) is None or ended.producer != self._results[name].producer:
                    yield "its base has no such output"
            case OutputSource.JOINED:
                yield from self._joined_problems(name, ended)
            case _:
                yield from self._cached_problems(name, ended)

    def _executed_problems(self, name: str, ended: SeenStep) -> Iterator[str]:
        planned, step, run = self._run.plan[name], self._steps[name], self._run
        # What the plan has turned down stays so, also when the skill goes back to its version.
        is_planned = planned.action is PlanAction.EXECUTE
        base = None if is_planned else self._base_if_same(name, ended)
        if base is not None and self._versions(name, ended) == {base.cache_version}:
            yield "its base had the same input"
        since, planned_at = self._asked_since(name, ended), run.created_at if is_planned else -math.inf
        _, can_miss = self._answers(step, ended.input_hash, since, ended.ended_at, filed_after=planned_at)
        if self._may_read(name) and not can_miss:
            yield "the cache had its output"
        is_filed = any(f.producer == ended.producer for f in self._seen.filings)
        if is_filed and not (_is_shared(step) and (run.mode.writes or planned.reason is PlanReason.FORCED)):
            yield "and filed in the cache"

    def _joined_problems(self, name: str, ended: SeenStep) -> Iterator[str]:
        assert ended.producer is not None
        leader = self._seen.runs[ended.producer[0]].steps[ended.producer[1]]
        # What follows the refreshed seeds of an update goes on as DEFAULT.
        if not self._may_read(name) or self._run.mode not in (CacheMode.DEFAULT, CacheMode.REFRESH):
            yield "though it may not follow"
        if not self._run.planned_since <= leader.ended_at <= ended.ended_at:
            yield "what it followed was not in flight"
        if leader.cache_version not in self._versions(name, ended):
            yield "what it followed was made by another version"

    def _cached_problems(self, name: str, ended: SeenStep) -> Iterator[str]:
        step, run, versions = self._steps[name], self._run, self._versions(name, ended)
        entries = [f for f in self._seen.filed(name, ended.input_hash) if f.producer == ended.producer]
        found = next((f for f in entries if self._fits(f, step, versions)), None)
        if not self._may_read(name) or found is None:
            yield "the cache had no such entry"
            return
        if found.removed_at < (ended.started_at or 0.0):
            yield "the entry had been removed from the cache"
        if run.plan[name].action is PlanAction.EXECUTE and found.visible_at < run.planned_since:
            yield "planned to be executed, and nothing that was filed since"

    def _base_if_same(self, name: str, ended: SeenStep) -> SeenStep | None:
        """What the base has of a step, if it may be read and was made from the same input by a version in question."""
        base = self._comparable(name)
        if base is None or self._is_refreshed(name) or base.input_hash != ended.input_hash:
            return None
        return base if base.cache_version in self._versions(name, ended) else None

    def _asked_since(self, name: str, ended: SeenStep) -> float:
        """Since when base and cache may have been looked at: who waits for a skill's limit does so before."""
        has_waited = ended.started_at is None or self._steps[name].skill.limit > 0
        return self._run.created_at if has_waited else ended.started_at or 0.0

    def _versions(self, name: str, ended: SeenStep) -> set[str | None]:
        since = self._asked_since(name, ended)
        return self._seen.declared(self._steps[name].definition.skill_id, since, ended.ended_at)

    def _may_read(self, name: str) -> bool:
        return _is_shared(self._steps[name]) and not self._is_refreshed(name)

    def _actions(
        self, name: str, step: StepModel, cached: PlanReason
    ) -> Iterator[tuple[PlanAction, PlanReason | None]]:
        """What the plan may say of an affected step whose existing outputs may be read."""
        run, base = self._run, self._comparable(name)
        if not _is_shared(step) and base is None:
            yield PlanAction.EXECUTE, None
            return
        if any(run.plan[read].action is not PlanAction.REUSE for read in step.reads):
            yield PlanAction.UNKNOWN, None
            return
        input_hash = self._input_hash(step, run.run_id, self._planned_producer)
        if input_hash is None:
            yield PlanAction.EXECUTE, None
            return
        versions = self._seen.declared(step.definition.skill_id, run.planned_since, run.created_at)
        if None in versions:
            yield PlanAction.UNKNOWN, None
        is_base = base is not None and base.input_hash == input_hash and base.cache_version in versions
        if is_base:
            yield PlanAction.REUSE, PlanReason.INPUT_UNCHANGED
            if len(versions) == 1:
                return
        if versions == {None}:
            return
        can_hit, can_miss = self._answers(step, input_hash, run.planned_since, run.created_at)
        if _is_shared(step) and can_hit:
            yield PlanAction.REUSE, cached
        if not _is_shared(step) or can_miss:
            yield PlanAction.EXECUTE, None

    def _is_refreshed(self, name: str) -> bool:
        """True when nothing may be read for the step: forced, BYPASS, and REFRESH for seeds and initial runs."""
        run = self._run
        if name in run.forced:
            return True
        if run.is_retry:
            assert self._base is not None
            before = self._base.plan[name].reason
            return run.mode is CacheMode.BYPASS or self._retried_reason(before) is not PlanReason.NO_BASE_OUTPUT
        is_first = self._base is None or name in run.seeds
        return run.mode is CacheMode.BYPASS or (run.mode is CacheMode.REFRESH and is_first)

    def _input_hash(self, step: StepModel, run_id: str, producer_of: Callable[[str], tuple[str, str]]) -> str | None:
        """The hash of a step's input as the run of that id sees it; None when it has none."""
        producers = {read: producer_of(read) for read in step.reads}
        view = View(
            payload=self._run.payload,
            change=self._run.change,
            run_id=run_id,
            outputs={read: orjson.loads(self._seen.outputs[producer]) for read, producer in producers.items()},
            artifacts={read: self._seen.artifacts[producer] for read, producer in producers.items()},
        )
        try:
            return digest(step.input(view))
        except MissingPathError:
            return None

    def _inherited(self, name: str) -> tuple[str, str]:
        producer = self._results[name].producer
        assert producer is not None
        return producer

    def _planned_producer(self, name: str) -> tuple[str, str]:
        producer = _producer(self._run.plan[name])
        assert producer is not None
        return producer

    def _actual_producer(self, name: str) -> tuple[str, str]:
        producer = self._run.steps[name].producer
        assert producer is not None
        return producer


def _producer(planned: PlannedStep) -> tuple[str, str] | None:
    binding = planned.binding
    return None if binding is None else (binding.producer_run_id, planned.step_id)


def _is_shared(step: StepModel) -> bool:
    return step.definition.cache_policy.is_shared
