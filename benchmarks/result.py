"""What measuring a table gives: under which conditions, for programs and for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A measured table.

    Attributes:
        conditions: what the figures depend on, by name.
        rows: for programs; every repeat, or a figure with all its samples.
        text: a Markdown table for people.
    """

    conditions: Mapping[str, str]
    rows: Sequence[Mapping[str, object]]
    text: str

    def document(self) -> dict[str, object]:
        """Everything, for JSON."""
        return {"conditions": dict(self.conditions), "measurements": list(self.rows)}
