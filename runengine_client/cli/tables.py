"""The tables the command prints."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from rich.table import Table
from rich.text import Text

from runengine_client.cache import CacheEntry, CacheStats
from runengine_client.cli import wording
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.step_queue import Queue, QueueDepth, QueueDepths, QueuedStep
from runengine_client.types import Artifact, RebuildPlan, Run, Step

DESCRIPTION_CHARACTERS_MAX = 80


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in ("RUN", "STEP", "ARTIFACT", "URI", "KEY"), overflow="fold")
    return table


def runs_table(runs: Iterable[Run]) -> Table:
    """Runs, one a line."""
    table = _table("RUN", "WORKFLOW", "TYPE", "STATUS", "STEPS", "CREATED", "TOOK")
    for run in runs:
        table.add_row(
            run.id,
            f"{run.workflow_name} {run.workflow_version}",
            str(run.trigger_type),
            wording.status_text(run.status),
            wording.summary(run.steps_summary),
            wording.moment(run.created_at),
            wording.span(run.duration),
        )
    return table


def run_table(run: Run) -> Table:
    """One run, one field a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    rows: list[tuple[str, str | Text]] = [
        ("run", run.id),
        ("workflow", f"{run.workflow_name} {run.workflow_version}"),
        ("status", wording.status_text(run.status)),
        ("type", str(run.trigger_type)),
        ("steps", wording.summary(run.steps_summary)),
        ("base run", run.base_run_id),
        ("change", run.change_request.type if run.change_request else ""),
        ("labels", ", ".join(f"{key}={value}" for key, value in run.labels.items())),
        ("priority", str(run.priority) if run.priority else ""),
        ("created", wording.moment(run.created_at)),
        ("started", wording.moment(run.started_at)),
        ("ended", wording.moment(run.completed_at)),
        ("took", wording.span(run.duration)),
        ("deadline", wording.moment(run.deadline)),
        ("saved", _saved(run)),
        ("failed step", run.failed_step),
        ("error", Text(wording.failure(run.error), style="red")),
        ("cancelled for", run.cancel_reason),
        ("last event", str(run.last_sequence)),
    ]
    for name, value in rows:
        if value:
            table.add_row(Text(name, style="bright_black"), value)
    return table


def _saved(run: Run) -> str:
    if not run.savings.skipped_steps:
        return ""
    return f"{run.savings.skipped_steps} steps, {wording.span(timedelta(seconds=run.savings.seconds_saved))}"


def steps_table(steps: Iterable[Step]) -> Table:
    """A run's steps, one a line."""
    table = _table("STEP", "LEVEL", "STATUS", "TOOK", "ATTEMPT", "OUTPUT", "ERROR")
    for step in steps:
        took = timedelta(milliseconds=step.duration_ms) if step.duration_ms else None
        table.add_row(
            step.step_id,
            str(step.level),
            wording.status_text(step.status),
            wording.span(took),
            f"{step.attempt}/{step.max_attempts}" if step.attempt else "",
            wording.reuse(step.output_source, step.cache),
            Text(wording.failure(step.error), style="red"),
        )
    return table


def artifacts_table(artifacts: Iterable[Artifact]) -> Table:
    """A run's artifacts, one a line."""
    table = _table("ARTIFACT", "STEP", "FILE", "TYPE", "SIZE", "FROM", "URI")
    for artifact in artifacts:
        is_own = artifact.source_run_id in ("", artifact.run_id)
        table.add_row(
            artifact.id,
            artifact.step_id,
            artifact.filename,
            artifact.type,
            wording.size(artifact.size_bytes),
            "this run" if is_own else f"run {artifact.source_run_id}",
            artifact.uri,
        )
    return table


def plan_table(plan: RebuildPlan) -> Table:
    """What a plan does with every step, and why."""
    table = _table("STEP", "ACTION", "REASON", "BECAUSE OF", "ESTIMATE")
    for step in plan.steps:
        table.add_row(
            step.step_id,
            wording.status_text(step.action),
            step.reason.replace("_", " "),
            Text("; ".join(_causes(step.caused_by, step.changed_pointers, step.unknown_until))),
            wording.span(step.estimate),
        )
    return table


def _causes(caused_by: Sequence[str], pointers: Sequence[str], unknown_until: Sequence[str]) -> Iterable[str]:
    """Each step once: one whose end is awaited causes it, too."""
    settled = [step_id for step_id in caused_by if step_id not in unknown_until]
    if settled:
        yield ", ".join(settled)
    if pointers:
        yield f"changed {', '.join(pointers)}"
    if unknown_until:
        yield f"known after {', '.join(unknown_until)}"


def plan_summary(plan: RebuildPlan) -> str:
    """A plan in one line."""
    unknown = f", {plan.unknown_count} not known yet" if plan.unknown_count else ""
    estimate = f", about {wording.span(plan.estimate)}" if plan.estimate else ""
    return f"{plan.execute_count} steps execute, {plan.reuse_count} are reused{unknown}{estimate}"


def workflows_table(workflows: Iterable[workflow_pb2.Workflow]) -> Table:
    """Workflows, one a line."""
    table = _table("WORKFLOW", "VERSION", "STEPS", "CHANGE REQUESTS", "DESCRIPTION")
    for workflow in workflows:
        table.add_row(
            workflow.name,
            workflow.version,
            str(len(workflow.steps)),
            ", ".join(rule.type for rule in workflow.change_requests),
            wording.shortened(workflow.description, DESCRIPTION_CHARACTERS_MAX),
        )
    return table


def cache_entries_table(entries: Iterable[CacheEntry]) -> Table:
    """Cache entries, one a line."""
    table = _table("KEY", "SIZE", "FILED", "SKILL", "RUN")
    for entry in entries:
        made_by = " ".join(filter(None, (entry.skill_id, entry.cache_version, entry.cache_epoch)))
        filed = wording.moment(entry.created_at)
        table.add_row(entry.key, wording.size(entry.size_bytes), filed, made_by, entry.source_run_id)
    return table


def cache_stats_table(stats: Iterable[CacheStats]) -> Table:
    """How the cache served each step, one a line."""
    table = _table("WORKFLOW", "STEP", "HOT", "COLD", "JOINED", "MISSES", "HIT RATE")
    for row in stats:
        counts = (row.hot_hits, row.cold_hits, row.joined, row.misses)
        table.add_row(row.workflow_name, row.step_id, *map(str, counts), f"{row.hit_rate:.0%}")
    return table


def queue_table(queue: Queue) -> Table:
    """How many steps stand where, by skill and in all, each with the age of the oldest."""
    table = _table("SKILL", "READY", "DELAYED", "WAITING", "HELD", "RUNNING", "STUCK")
    for skill in queue.skills:
        table.add_row(skill.skill_id, *_depths(skill.depths))
    table.add_row("all", *_depths(queue.total))
    return table


def _depths(depths: QueueDepths) -> Iterable[Text]:
    for depth in (depths.ready, depths.delayed, depths.waiting, depths.held, depths.running):
        yield Text(_depth(depth))
    yield Text(_depth(depths.stuck), style="red" if depths.stuck.steps else "")


def _depth(depth: QueueDepth) -> str:
    return f"{depth.steps}, {wording.span(depth.oldest_age)}" if depth.steps else "0"


def queued_steps_table(steps: Iterable[QueuedStep]) -> Table:
    """Steps of the queue, one a line."""
    table = _table("RUN", "STEP", "SKILL", "STATE", "ATTEMPT", "SINCE", "NEXT ATTEMPT")
    for step in steps:
        times = (wording.moment(step.since), wording.moment(step.next_attempt_at))
        state = wording.status_text(step.state)
        table.add_row(step.run_id, step.step_id, step.skill_id, state, str(step.attempt), *times)
    return table
