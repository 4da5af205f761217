"""What a notification says: which runs have events or were cancelled, what skills report, whether work is to be had."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from runengine_server.adapters.postgres.progress_hints import ProgressHint, decode_progress, encode_progress
from runengine_server.domain.ids import RunKey, StepId

PAYLOAD_BYTES_MAX = 7900  # PostgreSQL refuses 8000 and more.
RUNS_MAX = 5000  # Beyond it "all runs" is cheaper to send and to act on.
PROGRESS_MAX = 1000  # Some 100 KB, 3 ms of notifying; what is beyond it is told another time.


@dataclass(slots=True)
class Hints:
    """Hints collected since the last notification.

    `has_many`: events of more runs than worth naming. `is_here`: this process wants to hear of others.
    """

    events: set[RunKey] = field(default_factory=set)
    cancelled: set[RunKey] = field(default_factory=set)
    progress: dict[tuple[RunKey, StepId], ProgressHint] = field(default_factory=dict)
    is_ready: bool = False
    has_permits: bool = False
    has_many: bool = False
    is_here: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to say."""
        has_runs = self.events or self.cancelled or self.progress or self.has_many
        return bool(has_runs or self.is_ready or self.has_permits or self.is_here)

    @property
    def is_urgent(self) -> bool:
        """True when it must be said even to nobody that is known: who has just come would not find out by itself."""
        return bool(self.cancelled or self.progress or self.has_permits or self.is_here)

    def add_events(self, runs: Iterable[RunKey]) -> None:
        """These runs have new events."""
        if not self.has_many:
            self.events.update(runs)
            if len(self.events) > RUNS_MAX:
                self.has_many = True
                self.events.clear()

    def add_cancelled(self, runs: Iterable[RunKey]) -> None:
        """These runs were cancelled; dropped beyond the bound, since engines find out with their next renewal."""
        if len(self.cancelled) < RUNS_MAX:
            self.cancelled.update(runs)

    def add_progress(self, hint: ProgressHint) -> None:
        """The step has come this far; dropped beyond the bound, since there will be more."""
        key = (hint.run, hint.step_id)
        if key in self.progress or len(self.progress) < PROGRESS_MAX:
            self.progress[key] = hint

    def merge(self, other: "Hints") -> None:
        """Say what the other one, which is older, says too."""
        self.has_many = self.has_many or other.has_many
        self.is_ready = self.is_ready or other.is_ready
        self.has_permits = self.has_permits or other.has_permits
        self.is_here = self.is_here or other.is_here
        if self.has_many:
            self.events.clear()
        self.add_events(other.events)
        self.add_cancelled(other.cancelled)
        for key, hint in other.progress.items():
            if key not in self.progress:
                self.add_progress(hint)


def encode_hints(hints: Hints) -> Iterator[str]:
    """One or more payloads that together say it: `r`, `p`, `h`, `e*`, `e1,2`, `c4,5`, joined by `;`, or `g[…]`."""
    parts = []
    if hints.is_ready:
        parts.append("r")
    if hints.has_permits:
        parts.append("p")
    if hints.is_here:
        parts.append("h")
    if hints.has_many:
        parts.append("e*")
    length = sum(len(part) + 1 for part in parts)
    for kind, runs in (("c", hints.cancelled), ("e", hints.events)):
        named: list[str] = []
        for run in sorted(runs):
            number = str(run)
            if length + len(number) + 2 > PAYLOAD_BYTES_MAX:
                yield ";".join([*parts, *([kind + ",".join(named)] if named else [])])
                parts, named, length = [], [], 0
            named.append(number)
            length += len(number) + 2
        if named:
            parts.append(kind + ",".join(named))
    if parts:
        yield ";".join(parts)
    yield from encode_progress(hints.progress.values(), PAYLOAD_BYTES_MAX)


def decode_hints(payload: str) -> Hints:
    """What a payload says; parts of a kind that this version does not know are ignored."""
    hints = Hints()
    if payload.startswith("g"):
        for hint in decode_progress(payload):
            hints.add_progress(hint)
        return hints
    for part in payload.split(";"):
        match part[:1]:
            case "r":
                hints.is_ready = True
            case "p":
                hints.has_permits = True
            case "h":
                hints.is_here = True
            case "e" if part == "e*":
                hints.has_many = True
            case "e":
                hints.events.update(_runs(part))
            case "c":
                hints.cancelled.update(_runs(part))
            case _:
                pass
    return hints


def _runs(part: str) -> Iterator[RunKey]:
    return (RunKey(int(number)) for number in part[1:].split(",") if number.isdecimal())
