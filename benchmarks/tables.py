"""The tables there are, each one command, with what its work can be scaled by.

Nothing here imports grpc: the databases must start before it.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

ENGINE_WORKS: Final = ("one20", "w1", "w2", "w3", "w4", "remote", "two", "logs")
PEERS: Final = (
    "runengine", "bullmq", "restate", "graphile", "dbos", "temporal", "floor", "floor-grpc",
)  # fmt: skip
PEER_WORKS: Final = ("one20", "w1", "w2", "w3", "w4", "remote")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        about: what it measures.
        options: how its work is scaled: argparse's arguments by flag.
        has_databases: whether it runs on a PostgreSQL and a Valkey that are started for it.
    """

    about: str
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    has_databases: bool = True


def positive(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def sizes(text: str) -> list[int]:
    """A comma list of whole numbers from 1."""
    return [positive(each) for each in text.split(",")]


def counts(text: str) -> list[int]:
    """A comma list of whole numbers from 0."""
    return [int(each) for each in text.split(",")]


class _OneOf:
    """A comma list of known names."""

    def __init__(self, kind: str, known: Sequence[str]) -> None:
        self._kind, self._known = kind, known

    def __call__(self, text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(self._known)):
            raise argparse.ArgumentTypeError(
                f"no such {self._kind}: {', '.join(unknown)}; choose from {','.join(self._known)}"
            )
        return names


def _repeats(default: int = 3) -> dict[str, object]:
    return {"type": positive, "default": default, "help": "repeats that count; one more comes first and does not"}


TABLES: Final[Mapping[str, Table]] = {
    "engine": Table(
        about="steps/s and latency of runs: one20, w1, w2, w3, w4, remote skills, two engines, log lines",
        options={
            "--work": {
                "type": _OneOf("work", ENGINE_WORKS),
                "default": list(ENGINE_WORKS),
                "help": f"comma list of {','.join(ENGINE_WORKS)}",
            },
            "--n": {
                "type": sizes,
                "default": [200, 1000],
                "help": "sizes of w1; others use the largest or smallest",
            },
            "--reps": {"type": positive, "default": 3, "help": "repeats that count"},
            "--warm-ups": {"type": int, "default": 1, "help": "repeats before them that do not"},
        },
    ),
    "rebuild": Table(
        about="update of a large graph: nothing changed, one leaf changed; call to finished, and the plan alone",
        options={
            "--nodes": {"type": sizes, "default": [1000, 10_000], "help": "sizes of the graph"},
            "--reps": _repeats(),
        },
    ),
    "cachehit": Table(
        about="what a hot and a cold hit cost a step, batched",
        options={
            "--steps": {"type": positive, "default": 1000, "help": "side by side in one run"},
            "--reps": _repeats(5),
        },
    ),
    "watch": Table(
        about="commit to client with one watcher; memory and events/s with many on one run",
        options={
            "--watchers": {"type": sizes, "default": [1, 1000, 5000], "help": "numbers of watchers on one run"},
            "--steps": {"type": positive, "default": 200, "help": "of the run that is watched"},
            "--reps": _repeats(),
        },
    ),
    "browser": Table(
        about="commit to visible in a page that follows a run, in Chromium, by Connect and by gRPC-Web",
        options={
            "--steps": {"type": positive, "default": 50, "help": "of the run, one after another"},
            "--pause-s": {"type": float, "default": 0.1, "help": "how long each step takes"},
            "--reps": _repeats(),
        },
    ),
    "memory": Table(
        about="resident memory of an idle engine, and with runs and watchers",
        options={
            "--runs": {"type": positive, "default": 1000, "help": "in flight at once"},
            "--watchers": {"type": positive, "default": 500, "help": "each on a run of its own"},
            "--skill-s": {"type": float, "default": 1.0, "help": "how long a skill call takes"},
        },
    ),
    "money": Table(
        about="skill calls paid twice while every engine is restarted, and killed, one after another",
        options={
            "--calls": {"type": positive, "default": 500, "help": "in flight"},
            "--call-s": {"type": float, "default": 60.0, "help": "how long each takes"},
            "--engines": {"type": positive, "default": 2, "help": "side by side"},
        },
    ),
    "growth": Table(
        about="the same work after many finished steps, and under a snapshot that stays open",
        options={
            "--steps": {
                "type": counts,
                "default": [0, 1_000_000, 5_000_000],
                "help": "finished steps in the tables, ascending",
            },
            "--n": {"type": positive, "default": 200, "help": "campaign runs of a burst"},
            "--reps": _repeats(),
            "--churn-s": {"type": float, "default": 600.0, "help": "seconds under an open snapshot; 0: none"},
        },
    ),
    "demo": Table(
        about="`make demo` from a fresh clone until the first step runs",
        options={
            "--here": {
                "action": "store_true",
                "help": "in this checkout and its environment: neither clone nor installation",
            },
            "--reps": {"type": positive, "default": 1, "help": "repeats"},
        },
        has_databases=False,
    ),
    "peers": Table(
        about="the same work on other engines, in turn with ours; installs them first",
        options={
            "--peers": {
                "type": _OneOf("peer", PEERS),
                "default": list(PEERS),
                "help": f"comma list of {','.join(PEERS)}",
            },
            "--work": {
                "type": _OneOf("work", PEER_WORKS),
                "default": list(PEER_WORKS),
                "help": f"comma list of {','.join(PEER_WORKS)}",
            },
            "--n": {"type": sizes, "default": [200, 1000], "help": "sizes of w1; slow peers take the smallest only"},
            "--rounds": {"type": positive, "default": 3, "help": "each peer has its turn in each"},
        },
    ),
}
