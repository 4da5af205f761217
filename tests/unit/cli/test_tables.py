"""What the tables of the command say, cell by cell."""

import re

import pytest
from rich.console import Console
from rich.table import Table

from runengine_client.cli.tables import plan_table
from runengine_client.states import PlanAction, PlanReason
from runengine_client.types import PlannedStep, RebuildPlan


def shown(table: Table) -> list[list[str]]:
    """The cells of each row that have something in them."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return [re.split(" {2,}", line.strip()) for line in captured.get().splitlines()[1:]]


@pytest.mark.parametrize(
    ("caused_by", "unknown_until", "causes"),
    [
        (("music",), (), "music"),
        (("music", "mix"), ("music", "mix"), "known after music, mix"),
        (("music", "mix"), ("mix",), "music; changed /style; known after mix"),
        ((), ("mix",), "known after mix"),
    ],
)
def test_causes_are_said_once(caused_by: tuple[str, ...], unknown_until: tuple[str, ...], causes: str) -> None:
    """A step that causes another one, and whose end that one waits for, is named once."""
    step = PlannedStep(
        step_id="manifest",
        action=PlanAction.UNKNOWN,
        reason=PlanReason.DOWNSTREAM,
        caused_by=caused_by,
        changed_pointers=("/style",) if "changed" in causes else (),
        unknown_until=unknown_until,
    )
    plan = RebuildPlan(steps=(step,), execute_count=0, reuse_count=0, unknown_count=1)
    [row] = shown(plan_table(plan))
    assert row == ["manifest", "unknown", "downstream", causes]
