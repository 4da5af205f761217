"""What one engine has yet to be told of a call."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from runengine_client.skills.artifact_folder import Artifact
from runengine_client.skills.invocation import CallFailed, CallOutcome, CallSucceeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a call is."""

    fraction: float
    message: str
    reported_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The call is alive and has nothing to say."""


HEARTBEAT: Final = Heartbeat()

CallMessage = Artifact | Progress | Heartbeat | CallSucceeded | CallFailed


class TellingCall(Protocol):
    """What a listener reads of its call."""

    artifacts: list[Artifact]
    progress: Progress | None
    outcome: CallOutcome | None


class Listener:
    """One engine's place in what a call says; `wake` is called whenever there may be more."""

    __slots__ = ("_artifacts_told", "_call", "_progress_told", "is_told", "wake")

    def __init__(self, call: TellingCall, wake: Callable[[], None]) -> None:
        """Begin with the call's first artifact."""
        self._call = call
        self.wake = wake
        self._artifacts_told = 0
        self._progress_told: Progress | None = None
        self.is_told = False

    def pending(self) -> Iterator[CallMessage]:
        """What it has not been told, oldest first: artifacts, the latest progress, last the outcome.

        The place moves with each item, so an iterator may be left and another one go on.
        """
        call = self._call
        while self._artifacts_told < len(call.artifacts):
            self._artifacts_told += 1
            yield call.artifacts[self._artifacts_told - 1]
        if call.progress is not None and call.progress is not self._progress_told:
            self._progress_told = call.progress
            yield call.progress
        if call.outcome is not None and not self.is_told:
            self.is_told = True
            yield call.outcome
