"""How the command shows two runs side by side."""

from collections.abc import Collection, Iterable, Sequence

from rich.table import Table
from rich.text import Text

from runengine_client.cli import wording
from runengine_client.types import Step, StepDiff


def differs(diff: StepDiff) -> bool:
    """True when the step's input or output differ, or only one run has it."""
    if diff.left is None or diff.right is None:
        return True
    return diff.output_changed or bool(diff.input_pointers) or diff.left.input_hash != diff.right.input_hash


def comparison_table(diffs: Iterable[StepDiff], root_causes: Collection[str]) -> Table:
    """One step a line; the root causes are marked."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("STEP", "LEFT", "RIGHT", "INPUT", "OUTPUT", "CAUSE"):
        table.add_column(column, no_wrap=column == "STEP", overflow="fold")
    for diff in diffs:
        table.add_row(
            diff.step_id,
            _outcome(diff.left),
            _outcome(diff.right),
            Text(_input(diff)),
            Text("changed", style="yellow") if diff.output_changed else Text("same"),
            Text("root cause", style="bold") if diff.step_id in root_causes else Text(),
        )
    return table


def _outcome(step: Step | None) -> Text:
    if step is None:
        return Text("no such step", style="bright_black")
    reused = wording.reuse(step.output_source, None)
    return Text.assemble(wording.status_text(step.status), f" {reused}" if reused else "")


def _input(diff: StepDiff) -> str:
    if diff.input_pointers:
        return wording.pointers(diff.input_pointers)
    hashes: Sequence[str] = [step.input_hash for step in (diff.left, diff.right) if step is not None]
    if len(hashes) < 2 or "" in hashes:
        return ""
    return "same" if hashes[0] == hashes[1] else "changed"
