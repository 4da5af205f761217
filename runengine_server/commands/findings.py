"""What a check found, and how findings are printed."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.table import Table
from rich.text import Text


class Level(StrEnum):
    """How bad a finding is; only a failure makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at: a variable, or an aspect of something outside.
        level: how it is.
        found: what was seen there; never a secret.
        advice: what to write or to do; empty where nothing is to be done.
    """

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(check=check, level=Level.OK, found=found)


def warning(check: str, found: str, advice: str) -> Finding:
    """It works, but not as one would want."""
    return Finding(check=check, level=Level.WARNING, found=found, advice=advice)


def failed(check: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check=check, level=Level.FAILED, found=found, advice=advice)


def has_failure(findings: Sequence[Finding]) -> bool:
    """Whether anything does not work."""
    return any(finding.level is Level.FAILED for finding in findings)


_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "bold red"}


def findings_table(findings: Sequence[Finding]) -> Table:
    """One finding a line, what to do below it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("CHECK", overflow="fold")
    table.add_column("FOUND", overflow="fold")
    for finding in findings:
        found = Text(finding.found)
        if finding.advice:
            found.append(f"\n→ {finding.advice}", style="bold")
        table.add_row(Text(finding.level, style=_COLOURS[finding.level]), finding.check, found)
    return table
