"""The benchmarks run: every table, as small as it gets."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..support.processes import REPOSITORY, clean_environment

ENGINE_ROWS = {
    "one20",
    "w1",
    "w2",
    "w3",
    "w4, 32 callers",
    "remote",
    "two engines",
    "logs: all lines",
    "logs: no step lines",
    "logs: no step and cache lines",
}

SMALL = {
    "rebuild": ("--nodes", "100", "--reps", "1"),
    "cachehit": ("--steps", "20", "--reps", "1"),
    "watch": ("--watchers", "1,5", "--steps", "20", "--reps", "1"),
    "memory": ("--runs", "5", "--watchers", "3", "--skill-s", "0.01"),
    "growth": ("--steps", "0,1000", "--n", "2", "--reps", "1", "--churn-s", "0.5"),
}


def benchmarks(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=REPOSITORY,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def measured(file: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """The document that a table wrote."""
    done = benchmarks(*arguments, "--json", str(file), **environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    document: dict[str, Any] = json.loads(file.read_text())
    assert document["table"] == arguments[0]
    assert document["command"].startswith(f"python -m benchmarks {arguments[0]}")
    return document


def figures(document: dict[str, Any]) -> dict[tuple[str, str], float]:
    """The medians by work and what was measured."""
    return {(row["work"], row["what"]): row["median"] for row in document["measurements"]}


def test_every_work_of_the_engine_is_measured(tmp_path: Path) -> None:
    """One command starts all servers and measures every work; each has a rate, latencies and CPU times."""
    document = measured(tmp_path / "engine.json", "engine", "--n", "2", "--reps", "1", "--warm-ups", "0")
    rows = {row["work"]: row for row in document["measurements"]}
    assert rows.keys() == ENGINE_ROWS
    for row in rows.values():
        assert row["steps_per_s"] > 0, row
        assert row["p99_ms"] >= row["p50_ms"] > 0, row
        assert row["engine_us_per_step"] > 0, row
    assert rows["w2"]["steps"] == 1002
    assert rows["w3"]["steps"] == 200
    assert rows["remote"]["skills_us_per_step"] > 0 or not Path("/proc/self/schedstat").exists()
    assert "fsync=on, synchronous_commit=on" in document["conditions"]["PostgreSQL"]


def test_a_part_can_be_measured_alone() -> None:
    """Work that needs no skill server runs without one; warm-ups do not count."""
    done = benchmarks("engine", "--work", "w1", "--n", "1,2", "--reps", "1")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "warm-up: {'work': 'w1', 'n': 1," in done.stdout
    assert "| w1 | 1 | 1 |" in done.stdout
    assert "| w1 | 2 | 1 |" in done.stdout


@pytest.mark.parametrize("table", SMALL)
def test_a_table_is_measured(table: str, tmp_path: Path) -> None:
    """Every figure has samples and a unit, and stands beside the conditions it depends on."""
    document = measured(tmp_path / "table.json", table, *SMALL[table])
    assert len(document["measurements"]) > 2
    assert all(row["values"] and row["unit"] for row in document["measurements"])
    assert "PostgreSQL" in document["conditions"]


def test_peers_have_their_turns(tmp_path: Path) -> None:
    """Ours and the frames, which need no installation, do the same work in each round; so ratios are of one round."""
    some = ("--peers", "runengine,floor,floor-grpc", "--n", "2", "--rounds", "2")
    document = measured(tmp_path / "peers.json", "peers", *some)
    rows = {(row["work"], row["what"]): row["values"] for row in document["measurements"]}
    for work in ("one20", "w1, N = 2", "w2", "w3", "w4"):
        for what in ("RunEngine", "floor", "floor with gRPC", "RunEngine to floor", "RunEngine to floor with gRPC"):
            assert len(rows[work, what]) == 2 and min(rows[work, what]) > 0, (work, what)
    assert len(rows["remote, N = 2", "RunEngine to floor with gRPC"]) == 2
    assert "not measured" not in document["conditions"]


def test_no_call_is_paid_twice(tmp_path: Path) -> None:
    """Calls outlive the engines that are restarted, and killed, under them; the ledger of the skill says so."""
    few = ("--calls", "5", "--call-s", "6", "--engines", "1")
    # A short lease, so that the steps of a killed engine are soon taken over.
    found = figures(measured(tmp_path / "money.json", "money", *few, RUNENGINE_LEASE_S="1"))
    assert sorted(value for (_, what), value in found.items() if what == "calls paid twice") == [0, 0]
    assert sorted(value for (_, what), value in found.items() if what == "runs completed") == [5, 5]
    # Otherwise no engine was ended while calls were in flight.
    assert all(value >= 5 for (_, what), value in found.items() if what == "calls the new engines attached to")


def test_an_unknown_work_is_refused_before_anything_starts() -> None:
    """A wrong name ends the command at once, with the names there are."""
    done = benchmarks("engine", "--work", "w1,w9")
    assert done.returncode == 2
    assert "no such work: w9" in done.stderr
    assert "one20,w1,w2,w3,w4,remote,two,logs" in done.stderr
