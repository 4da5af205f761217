"""Follows a run on a console: a live view of its levels on a terminal, one line per event elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runengine_client.cli import wording
from runengine_client.cli.run_view import RunView, StepOutcome
from runengine_client.states import RunStatus, StepStatus
from runengine_client.types import Run
from runengine_client.watch import Interruption, WatchOptions
from runengine_client.watch_items import (
    RunEnded,
    RunEvent,
    RunSnapshot,
    RunStatusChanged,
    StepStatusChanged,
    WatchItem,
)

if TYPE_CHECKING:
    from runengine_client.client import RunEngineClient

REFRESH_PER_S = 8
LINES_AROUND = 6
"""Lines of the live view that are not steps or levels: title, counts, running, margins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedRun:
    """A run that was followed to its end: its final state and what became of each step, in definition order."""

    run: Run
    steps: tuple[StepOutcome, ...]


async def follow_run(
    client: RunEngineClient,
    run_id: str,
    *,
    console: Console | None = None,
    options: WatchOptions | None = None,
    title: str = "",
) -> FollowedRun:
    """Show a run until it ends, and return how it did. Cancelling the task leaves the run alone.

    Args:
        client: connected to the run's server.
        run_id: the run.
        console: where to show it; the live view needs a terminal, anything else gets lines.
        options: of the watch; progress is always asked for, and it starts with a snapshot.
        title: shown before the run's id, such as a message of the server.

    Raises:
        RunEngineError: as `RunEngineClient.watch`.
    """
    console = console or Console()
    given = options or WatchOptions()

    def interrupted(interruption: Interruption) -> None:
        console.print(Text(interruption_line(interruption), style="yellow"))

    watch_options = WatchOptions(
        include_progress=True,
        heartbeat_s=given.heartbeat_s,
        silence_s_max=given.silence_s_max,
        connect=given.connect,
        resume=given.resume,
        on_interrupted=given.on_interrupted or interrupted,
    )
    return await follow_items(client.watch(run_id, options=watch_options), console=console, title=title)


async def follow_items(items: AsyncIterator[WatchItem], *, console: Console, title: str = "") -> FollowedRun:
    """Show what a watch yields until it ends; the watch must start with a snapshot."""
    view = RunView()
    can_redraw = console.is_terminal and not console.is_dumb_terminal
    screen = _Screen(view, console, title) if can_redraw else None
    live = Live(screen, console=console, refresh_per_second=REFRESH_PER_S, transient=False, vertical_overflow="crop")
    with live if screen is not None else nullcontext():
        async for item in items:
            before = dict(view.steps)
            view.apply(item)
            if screen is None:
                for line in lines_of(item, view, before):
                    console.print(line, soft_wrap=True)
            if isinstance(item, RunEnded):
                if screen is not None:
                    screen.is_final = True
                return FollowedRun(run=item.run, steps=tuple(view.steps.values()))
    raise AssertionError("a watch ends with the run's end or an error")


class _Screen:
    """The live view; renders the current state whenever the console refreshes."""

    def __init__(self, view: RunView, console: Console, title: str) -> None:
        self._view = view
        self._console = console
        self._title = title
        self.is_final = False

    def __rich__(self) -> RenderableType:
        """The run's title, its levels and its counts."""
        view = self._view
        if view.run is None:
            return Text(self._title or "waiting for the server …")
        room = self._console.size.height - LINES_AROUND
        is_small = self.is_final or len(view.steps) + len(view.levels()) <= room
        body = steps_table(view) if is_small else _levels_table(view, room)
        return Group(run_heading(view.run, view.status), body, _counts(view))


def run_heading(run: Run, status: RunStatus) -> Text:
    """The run in one line: status, workflow, id, base."""
    heading = Text.assemble(
        wording.status_text(status), "  ", (f"{run.workflow_name} {run.workflow_version}", "bold"), f"  run {run.id}"
    )
    if run.base_run_id:
        heading.append(f"  {run.trigger_type} of {run.base_run_id}", style="bright_black")
    return heading


def steps_table(view: RunView) -> Table:
    """Every step, grouped by level; what is on one level can run in parallel."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for level, steps in enumerate(view.levels()):
        width = f"  {len(steps)} in parallel" if len(steps) > 1 else ""
        table.add_row(Text(f"level {level}{width}", style="bright_black"))
        for step in steps:
            table.add_row(
                Text(f"  {step.step_id}"),
                wording.status_text(step.status, width=9),
                Text(_took(step), justify="right"),
                Text(_remark(step), style="red" if step.error else "bright_black", overflow="ellipsis", no_wrap=True),
            )
    return table


def _levels_table(view: RunView, room: int) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    levels = [(number, steps) for number, steps in enumerate(view.levels())]
    if len(levels) > room:
        # Finished levels say least: show the window that starts with the first unfinished one.
        unfinished = (number for number, steps in levels if not all(step.status.is_terminal for step in steps))
        first = min(next(unfinished, 0), len(levels) - room)
        levels = levels[first : first + room]
    for number, steps in levels:
        counts: dict[StepStatus, int] = {}
        for step in steps:
            counts[step.status] = counts.get(step.status, 0) + 1
        words = Text("  ").join(
            Text.assemble(f"{count} ", wording.status_text(status)) for status, count in counts.items()
        )
        table.add_row(Text(f"level {number}", style="bright_black"), Text(f"{len(steps)} steps"), words)
    return table


def _counts(view: RunView) -> Text:
    text = Text(wording.summary(view.summary))
    if view.running:
        text.append(f"   now: {', '.join(view.running[:4])}{' …' if len(view.running) > 4 else ''}", style="cyan")
    if view.run is not None and view.run.savings.seconds_saved and view.status.is_terminal:
        text.append(f"   saved {wording.span(timedelta(seconds=view.run.savings.seconds_saved))}", style="blue")
    if view.run is not None and view.run.error:
        text.append(f"\n{wording.failure(view.run.error)}", style="red")
    return text


def _took(step: StepOutcome) -> str:
    if step.status is StepStatus.RUNNING and step.started_at is not None:
        return wording.span(datetime.now(UTC) - step.started_at)
    return wording.span(step.duration)


def _remark(step: StepOutcome) -> str:
    parts = [wording.reuse(step.output_source, step.cache)] if step.status is not StepStatus.PENDING else []
    if step.attempt > 1:
        parts.append(f"attempt {step.attempt}")
    if step.progress and step.status is StepStatus.RUNNING:
        parts.append(f"{step.progress.fraction:.0%} {step.progress.message}".rstrip())
    if step.error:
        parts.append(wording.failure(step.error))
    return "  ".join(part for part in parts if part)


def lines_of(item: WatchItem, view: RunView, before: dict[str, StepOutcome]) -> list[Text]:
    """The lines that tell an item where there is no terminal; none for what would only be noise."""
    match item:
        case RunSnapshot():
            told = [
                _step_line(view, step)
                for step in view.steps.values()
                if (step.status.is_terminal or step.status is StepStatus.RUNNING)
                and not (step.step_id in before and before[step.step_id].status is step.status)
            ]
            return [_line(view, run_heading(item.run, item.run.status)), *told]
        case RunEvent(detail=RunStatusChanged() as change):
            return [] if change.to_status.is_terminal else [_line(view, Text.assemble("run ", change.to_status))]
        case RunEvent(detail=StepStatusChanged() as change):
            is_waiting = change.to_status is StepStatus.READY and change.error is None
            return [] if is_waiting else [_step_line(view, view.steps[item.step_id])]
        case RunEnded():
            took = f" in {wording.span(item.run.duration)}" if item.run.duration else ""
            text = Text.assemble(
                "run ", wording.status_text(item.run.status), f"{took}  {wording.summary(view.summary)}"
            )
            if item.run.error:
                text.append(f"  {wording.failure(item.run.error)}", style="red")
            return [_line(view, text)]
        case _:
            return []


def _step_line(view: RunView, step: StepOutcome) -> Text:
    word = "retrying" if step.status is StepStatus.READY and step.error else str(step.status)
    parts = [f" in {wording.span(step.duration)}" if step.duration else "", f"  {_remark(step)}".rstrip()]
    if step.status is StepStatus.RUNNING and len(view.running) > 1:
        parts.append(f"  [{len(view.running)} in parallel]")
    return _line(view, Text.assemble(step.step_id, "  ", wording.status_text(word), *parts))


def _line(view: RunView, text: Text) -> Text:
    return Text.assemble((f"{wording.clock(view.last_at)}  ", "bright_black"), text)


def interruption_line(interruption: Interruption) -> str:
    """What to tell about a lost connection."""
    return f"connection lost ({interruption.error.message}); resuming in {interruption.delay_s:.1f} s"
