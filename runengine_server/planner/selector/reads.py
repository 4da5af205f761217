"""What an expression may read, found by analysis and over both branches of every conditional."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """The sources an expression or a template depends on.

    Attributes:
        trigger: RFC 6901 pointers into the effective payload, sorted; an index that is computed ends the pointer,
            and the empty pointer stands for the whole payload.
        is_change_read: whether `change` is read.
        is_run_read: whether `run` is read.
        step_outputs: ids of the steps whose output is read, sorted.
        step_artifacts: ids of the steps whose artifacts are read, sorted.
    """

    trigger: tuple[str, ...] = ()
    is_change_read: bool = False
    is_run_read: bool = False
    step_outputs: tuple[str, ...] = ()
    step_artifacts: tuple[str, ...] = ()

    @property
    def step_ids(self) -> tuple[str, ...]:
        """Ids of all steps that are read, sorted."""
        return tuple(sorted({*self.step_outputs, *self.step_artifacts}))


def union(parts: Iterable[Reads]) -> Reads:
    """Return what is read by any of the parts."""
    parts = tuple(parts)
    return Reads(
        trigger=tuple(sorted({pointer for part in parts for pointer in part.trigger})),
        is_change_read=any(part.is_change_read for part in parts),
        is_run_read=any(part.is_run_read for part in parts),
        step_outputs=tuple(sorted({step_id for part in parts for step_id in part.step_outputs})),
        step_artifacts=tuple(sorted({step_id for part in parts for step_id in part.step_artifacts})),
    )
