"""Which metrics and labels a PromQL expression names: enough of its grammar for the expressions of deploy/."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SELECTOR = re.compile(r"\b((?:run_engine|process)_\w+)(\{[^}]*\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_ADDED = frozenset({"job", "instance", "le"})
"""By Prometheus to everything, or to buckets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A metric by its family's name, and its labels with the values that are asked for; none is any."""

    metric: str
    labels: dict[str, tuple[str, ...]]


def references(expression: str) -> Iterator[Reference]:
    """Every selector of the expression."""
    for name, braces in _SELECTOR.findall(expression):
        labels = {
            label: tuple(value.split("|")) if operator in ("=", "=~") and not value.startswith("$") else ()
            for label, operator, value in _MATCHER.findall(braces)
            if label not in _ADDED
        }
        yield Reference(metric=re.sub(r"_(bucket|sum|count)$", "", name), labels=labels)


def grouped_by(expression: str) -> set[str]:
    """The labels that results are grouped by."""
    return {
        label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",") if label.strip()
    } - _ADDED
