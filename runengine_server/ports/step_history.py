"""What explanations ask of a run's steps and of the runs before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo
from runengine_server.domain.states import OutputSource, StepStatus
from runengine_server.ports.run_reader import RunIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """Where a step is and what it came to; texts are empty while there is nothing, hashes are lower-case hex.

    `is_held`: it is leased, but its attempt still waits for a free slot of its skill.
    """

    status: StepStatus
    source: OutputSource | None = None
    source_run_id: RunId | None = None
    input_hash: str = ""
    output_hash: str = ""
    cache_version: str = ""
    is_held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedStep:
    """A step whose input the cache did not know, when its attempt started and the hash of that input."""

    step_id: StepId
    started_at: datetime
    input_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierStep:
    """A success of a step in an earlier run."""

    run: RunIdentity
    step: StepNo


class StepHistory(Protocol):
    """Facts about steps, each answer of one snapshot."""

    async def outcomes(self, run: RunKey, steps: Sequence[StepNo]) -> Mapping[StepNo, StepOutcome]:
        """Where each of these steps of a run is now."""

    async def neighbours(self, run: RunIdentity, workflow_name: str) -> Sequence[RunIdentity]:
        """The runs of the tenant's workflow next to a run: some tens of newer ones, more older ones."""

    async def nearest_successes(
        self, missed: Sequence[MissedStep], runs: Sequence[RunIdentity], numbers: Sequence[Sequence[StepNo | None]]
    ) -> Sequence[EarlierStep | None]:
        """For each missed step the latest success with another input that ended before it started, among these runs.

        Args:
            missed: the steps.
            runs: where to look.
            numbers: for each run the number that each missed step has there, None where its version has no such step.
        """
