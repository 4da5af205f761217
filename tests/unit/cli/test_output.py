"""What the command prints: JSON as the HTTP surface has it, words a person reads, and the live view."""

import io
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from rich.console import Console

from runengine_client.cli import wording
from runengine_client.cli.global_options import hoist
from runengine_client.cli.live import follow_items
from runengine_client.cli.output import to_json
from runengine_client.cli.session import Session
from runengine_client.states import CacheOutcome, MissReason, OutputSource, RunStatus, StepStatus, TriggerType
from runengine_client.types import CacheDecision, Run, Step, StepsSummary
from runengine_client.watch_items import RunEnded, RunEvent, RunSnapshot, RunStatusChanged, StepStatusChanged

NOW = datetime(2026, 1, 19, 10, tzinfo=UTC)
RUN = Run(
    id="r-1",
    workflow_name="demo",
    workflow_version="1.0.0",
    workflow_digest="d",
    status=RunStatus.RUNNING,
    trigger_type=TriggerType.INITIAL,
    steps_summary=StepsSummary(total=3, pending=3),
    created_at=NOW,
    trigger_payload={"camel_me_not": {"x_y": 1}, "empty": ""},
)


def step(step_id: str, level: int) -> Step:
    return Step(run_id="r-1", step_id=step_id, skill_id="s", status=StepStatus.PENDING, level=level)


def test_json_form():
    """Keys are camelCase, unset fields are left out, zeros are printed and payloads are left as they are."""
    printed = to_json(RUN)
    assert printed["workflowName"] == "demo"
    assert printed["stepsSummary"]["failed"] == 0
    assert printed["createdAt"] == "2026-01-19T10:00:00Z"
    assert printed["triggerPayload"] == {"camel_me_not": {"x_y": 1}, "empty": ""}
    assert "baseRunId" not in printed
    assert "startedAt" not in printed
    decision = CacheDecision(outcome=CacheOutcome.HIT, age=timedelta(seconds=1.5))
    assert to_json(decision) == {"outcome": "hit", "ageMs": 1500}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["get", "r", "--output", "json"], ["--output", "json", "get", "r"]),
        (["get", "r", "--target=h:1", "--tls"], ["--target=h:1", "--tls", "get", "r"]),
        (["get", "--", "--output", "json"], ["get", "--", "--output", "json"]),
        (["get", "--output"], ["--output", "get"]),
    ],
)
def test_global_options_anywhere(args, expected):
    """Global options are found after the command too, but not behind `--`."""
    assert hoist(args) == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.34, "340 ms"), (5.234, "5.2 s"), (187, "3 m 07 s"), (7260, "2 h 01 m"), (None, "")]
)
def test_spans(seconds, text):
    """Durations are short and have units."""
    assert wording.span(None if seconds is None else timedelta(seconds=seconds)) == text


def test_reuse_words():
    """Reuse names its source; a miss names its reason and a few of the pointers."""
    miss = CacheDecision(
        outcome=CacheOutcome.MISS, miss_reason=MissReason.INPUT_CHANGED, changed_pointers=("/a", "/b", "/c", "/d")
    )
    assert wording.reuse(None, miss) == "cache miss: input changed at /a, /b, /c, …"
    assert wording.reuse(OutputSource.BASE_RUN, None) == "from base run"
    assert wording.reuse(OutputSource.EXECUTED, None) == ""


async def items(count: int):
    """A run with a root and so many parallel steps after it."""
    steps = (step("root", 0), *[step(f"leaf_{n}", 1) for n in range(count)])
    yield RunSnapshot(sequence=1, run=RUN, steps=steps, reason="initial")
    sequence = 1

    def event(step_id: str, before: StepStatus, to: StepStatus, **more) -> RunEvent:
        nonlocal sequence
        sequence += 1
        detail = StepStatusChanged(
            from_status=before, to_status=to, steps_summary=StepsSummary(total=count + 1), **more
        )
        return RunEvent(
            sequence=sequence, occurred_at=NOW, type="step_status", step_id=step_id, attempt=1, detail=detail
        )

    for each in steps:
        yield event(each.step_id, StepStatus.READY, StepStatus.RUNNING)
    for each in steps:
        done = {"duration_ms": 1200, "output_source": OutputSource.EXECUTED}
        yield event(each.step_id, StepStatus.RUNNING, StepStatus.COMPLETED, **done)
    summary = StepsSummary(total=count + 1, completed=count + 1)
    detail = RunStatusChanged(from_status=RunStatus.RUNNING, to_status=RunStatus.COMPLETED, steps_summary=summary)
    yield RunEvent(sequence=sequence + 1, occurred_at=NOW, type="run_status", step_id="", attempt=0, detail=detail)
    ended = Run(
        id="r-1",
        workflow_name="demo",
        workflow_version="1.0.0",
        workflow_digest="d",
        status=RunStatus.COMPLETED,
        trigger_type=TriggerType.INITIAL,
        steps_summary=summary,
    )
    yield RunEnded(sequence=sequence + 1, run=ended)


@pytest.mark.parametrize("count", [2, 200])
def test_live_view(count):
    """On a terminal the last picture has every step with its level, status and time, however many there are."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=20, color_system=None)

    async def follow():
        return await follow_items(items(count), console=console)

    followed = anyio.run(follow)
    printed = console.file.getvalue()
    last = printed[printed.rindex("level 0") :]
    assert f"level 1  {count} in parallel" in last
    assert last.count("completed") >= count + 1
    assert f"{count + 1} steps: {count + 1} completed" in last
    assert [each.step_id for each in followed.steps] == ["root", *[f"leaf_{n}" for n in range(count)]]
    assert all(each.status is StepStatus.COMPLETED and each.duration_ms == 1200 for each in followed.steps)
    assert followed.run.status is RunStatus.COMPLETED


def test_lines_without_terminal():
    """Elsewhere each change is a line, without control characters, and parallel steps are counted."""
    console = Console(file=io.StringIO(), width=200)

    async def follow():
        return await follow_items(items(2), console=console)

    anyio.run(follow)
    printed = console.file.getvalue()
    assert "\x1b" not in printed
    assert "leaf_1  running  [3 in parallel]" in printed
    assert printed.splitlines()[-1].endswith("run completed  3 steps: 3 completed")


def test_sentences():
    """On a terminal sentences break between words; elsewhere each is one line as it is."""
    sentences = ("styled was executed because [it] had to.", "It succeeded.")
    for is_terminal, expected in (
        (True, ["styled was executed", "because [it] had to.", "It succeeded."]),
        (False, [*sentences]),
    ):
        out = io.StringIO()
        console = Console(file=out, width=24, force_terminal=is_terminal, color_system=None, markup=False)
        Session(target="t", console=console).tell(sentences)
        assert [line.rstrip() for line in out.getvalue().splitlines()] == expected
