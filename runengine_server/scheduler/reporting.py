"""What the scheduler tells observers and watchers about what it has committed."""

from collections.abc import Mapping, Sequence

from runengine_server.domain.cache import CacheKey
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import RunKey
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.states import RunStatus
from runengine_server.ports.observer import Observer
from runengine_server.ports.run_store import RunFacts
from runengine_server.ports.step_queue import AttemptFailed, EndedRun, Lease, StepExecuted, StepFailed, StepReused, Turn
from runengine_server.ports.tracer import UNTRACED, Tracer
from runengine_server.scheduler.attempt import Settled
from runengine_server.scheduler.run_contexts import RunContext


class Reporting:
    """Speaks to one observer and, of traced runs, to one tracer, in the words of their ports."""

    def __init__(self, observer: Observer, tracer: Tracer = UNTRACED) -> None:
        """Tell these."""
        self._observer = observer
        self._tracer = tracer

    def run_created(self, facts: RunFacts, plan: RebuildPlan, *, has_ready_steps: bool) -> None:
        """A run exists, with what its plan reuses; one without ready steps is complete already."""
        if not has_ready_steps:
            self._observer.run_started(facts.run_id, facts.workflow_name)
        for step in plan.steps:
            if (binding := step.binding) is not None:
                if binding.cache is not None:
                    self._observer.cache_hit(*binding.cache)
                self._observer.step_skipped(facts.run_id, step.step_id, step.skill_id or "", binding.source)
        if not has_ready_steps:
            self._observer.run_completed(facts.run_id, 0)
            if facts.trace is not None:
                self._tracer.run_ended(facts, _completed_at_once(facts.run), ())
        self._observer.runs_changed([facts.run])

    def run_not_taken_up(self, run: RunKey, error: Exception) -> None:
        """A run exists, but this engine could not begin with it."""
        self._observer.internal_failure(f"run {run}", error)

    def work_left(self) -> None:
        """There is more in the queue than this engine can take on."""
        self._observer.work_left()

    def cache_missed(self, keys: Sequence[CacheKey]) -> None:
        """The cache has nothing for these keys."""
        for key in keys:
            self._observer.cache_miss(key)

    def runs_changed(self, runs: Sequence[RunKey]) -> None:
        """These runs have new events."""
        if runs:
            self._observer.runs_changed(runs)

    def runs_begun(self, contexts: Mapping[RunKey, RunContext]) -> None:
        """The first steps of these runs were leased."""
        for context in contexts.values():
            self._observer.run_started(context.facts.run_id, context.facts.workflow_name)

    def step_started(self, context: RunContext, lease: Lease) -> None:
        """An attempt is about to call its skill."""
        step = context.compiled.workflow.steps[lease.step]
        self._observer.step_started(context.facts.run_id, step.step_id, step.skill_id)

    def committed(self, batch: Sequence[Settled], turn: Turn) -> None:
        """A tick is committed."""
        for settled, is_accepted in zip(batch, turn.accepted, strict=True):
            if is_accepted and settled.context is not None:
                self._step_settled(settled, settled.context)
        if dropped := len(turn.accepted) - sum(turn.accepted):
            self._observer.results_dropped(dropped)
        changed = {settled.completion.lease.run for settled in batch}
        changed.update(lease.run for lease in turn.leases)
        changed.update(turn.begun)
        self.runs_changed(list(changed))

    def runs_ended(self, ended: Sequence[EndedRun], contexts: Mapping[RunKey, RunContext]) -> None:
        """These runs have ended; those without a context cannot be named, but what runs of them anywhere is stopped."""
        for each in ended:
            if context := contexts.get(each.run):
                self._run_ended(context, each)
        if failed := [each.run for each in ended if each.status is RunStatus.FAILED]:
            self._observer.runs_stopped(failed)

    def database_unavailable(self, error: UnavailableError) -> None:
        """The database did not answer; work goes on when it does."""
        self._observer.database_unavailable(str(error.__cause__ or error))

    def engine_lost(self) -> None:
        """This engine's lease ended while it lived; it starts anew under another number."""
        self._observer.engine_lost()

    def internal_failure(self, lease: Lease, error: Exception) -> None:
        """The engine itself could not run a step."""
        self._observer.internal_failure(f"run {lease.run}, step {lease.step}", error)

    def endings_unnamed(self, error: Exception) -> None:
        """Runs have ended whose names cannot be found."""
        self._observer.internal_failure("the ends of runs", error)

    def turn_failed(self, error: Exception) -> None:
        """A completion, or a turn without any, was refused by the database for what it is."""
        self._observer.internal_failure("a turn of the scheduler", error)

    def _step_settled(self, settled: Settled, context: RunContext) -> None:
        completion, facts = settled.completion, context.facts
        step = context.compiled.workflow.steps[completion.lease.step]
        if facts.trace is not None:
            self._tracer.step_settled(facts, step, completion, settled.duration_ms / 1000)
        match completion:
            case StepExecuted():
                self._observer.step_completed(facts.run_id, step.step_id, step.skill_id, settled.duration_ms)
            case StepReused():
                self._observer.step_skipped(facts.run_id, step.step_id, step.skill_id, completion.source)
            case AttemptFailed() | StepFailed():
                attempt = completion.lease.attempt
                self._observer.step_failed(facts.run_id, step.step_id, step.skill_id, completion.failure, attempt)

    def _run_ended(self, context: RunContext, ended: EndedRun) -> None:
        run_id = context.facts.run_id
        if context.facts.trace is not None:
            self._tracer.run_ended(context.facts, ended, context.compiled.workflow.steps)
        if ended.status is RunStatus.COMPLETED:
            self._observer.run_completed(run_id, ended.duration_ms)
        elif ended.status is RunStatus.FAILED:
            steps = context.compiled.workflow.steps
            failed_step = "" if ended.failed_step is None else steps[ended.failed_step].step_id
            self._observer.run_failed(run_id, failed_step, ended.failure.code if ended.failure else "")


def _completed_at_once(run: RunKey) -> EndedRun:
    return EndedRun(run=run, status=RunStatus.COMPLETED, duration_ms=0, failed_step=None, failure=None)
