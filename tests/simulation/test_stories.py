"""Histories of the production scheduler: whatever fails, every run ends and keeps what its plan promised."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from .seeds import chosen_seeds
from .story import Story, random_story
from .virtual_loop import run_virtually

REPOSITORY = Path(__file__).resolve().parents[2]

_TELL = """
import sys
from tests.simulation.test_stories import told
print(told(int(sys.argv[1])).world.trace.digest)
"""


def told(seed: int) -> Story:
    """The story of a seed."""
    random = Random(seed)
    return run_virtually(random, random_story(random))


@pytest.mark.parametrize("seed", chosen_seeds())
def test_stories_end_well(seed: int) -> None:
    """Through deaths, pauses, lost messages, failures and cancels: invariants hold, plans are kept, every run ends."""
    story = told(seed)
    wrong = story.verdict()
    assert not wrong, f"SIMULATION_SEEDS={seed} replays it:\n" + "\n".join(
        [*wrong, "", *story.world.trace.lines[-200:]]
    )


@pytest.mark.parametrize("seed", [3, 77, 1234])
def test_a_seed_replays_identically(seed: int) -> None:
    """The same seed tells the same story, turn for turn, also in another process with other hashes."""
    first = told(seed).world.trace
    assert told(seed).world.trace.lines == first.lines
    for hash_seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", _TELL, str(seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == first.digest


def test_the_stories_reach_what_they_are_about() -> None:
    """Among a hundred stories each kind of plan, end and fault comes up, or the search would be blind."""
    seen: Counter[str] = Counter()
    for seed in range(100):
        seen.update(_happened(told(seed)))
    expected = {
        *(f"run {status}" for status in ("COMPLETED", "FAILED", "CANCELLED")),
        *(f"fault {kind}" for kind in ("kill", "stop", "freeze", "cut", "flush")),
        *("EXECUTE INITIAL", "EXECUTE SEED", "EXECUTE WIDENED", "EXECUTE DOWNSTREAM", "UNKNOWN DOWNSTREAM"),
        *("EXECUTE FORCED", "EXECUTE NO_BASE_OUTPUT", "EXECUTE DEFINITION_CHANGED"),
        *("REUSE UNAFFECTED", "REUSE INPUT_UNCHANGED", "REUSE CACHED", "REUSE WIDENED"),
        *("UNKNOWN -> EXECUTED", "UNKNOWN -> BASE_RUN", "UNKNOWN -> CACHE_HOT"),
        *("EXECUTE -> CACHE_HOT", "EXECUTE -> CACHE_COLD", "EXECUTE -> JOINED", "IMPACT_WIDENED", "PLAN_CHANGED"),
        *(
            "begin",
            "outdated",
            "invalidate",
            "lease lost",
            "late result",
            "tried again",
            "plans compared",
            "DATABASE_UNAVAILABLE",
        ),
    }
    assert expected <= set(seen), f"never happened: {sorted(expected - set(seen))}"


def _happened(story: Story) -> Counter[str]:
    tables, seen = story.world.tables, Counter(story.clients.refused)
    seen.update(f"run {run.status.name}" for run in tables.runs.values())
    for run in tables.runs.values():
        for number, planned in enumerate(run.new.plan):
            seen[f"{planned.action.name} {planned.reason.name}"] += 1
            result = tables.results.get((run.key, number))  # type: ignore[call-overload]
            if result is not None and result.source is not None:
                seen[f"{planned.action.name} -> {result.source.name}"] += 1
    seen["lease lost"] += sum(result.lease_losses for result in tables.results.values())
    seen["tried again"] += sum(failed.attempt > 1 for failed in tables.tries)
    seen["plans compared"] += story.clients.compared
    for line in story.world.trace.lines:
        facts = line.split(" ")[1:]
        seen["late result"] += facts[0] == "settle" and facts[-1] == "False"
        for kind in ("invalidate", "begin", "outdated"):
            seen[kind] += facts[0] == kind
        if facts[0] == "fault":
            seen[" ".join(facts)] += 1
    return +seen
