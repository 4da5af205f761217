"""The benchmarks run: every piece of work, as small as it gets."""

import json
import subprocess
import sys
from pathlib import Path

from ..support.processes import REPOSITORY, clean_environment

EVERY_ROW = {
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


def benchmarks(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False
    )


def test_every_work_is_measured(tmp_path: Path) -> None:
    """One command starts all servers and measures every work; each has a rate, latencies and CPU times."""
    file = tmp_path / "figures.json"
    done = benchmarks("--n", "2", "--reps", "1", "--warm-ups", "0", "--json", str(file))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    document = json.loads(file.read_text())
    rows = {row["work"]: row for row in document["measurements"]}
    assert rows.keys() == EVERY_ROW
    for row in rows.values():
        assert row["steps_per_s"] > 0, row
        assert row["p99_ms"] >= row["p50_ms"] > 0, row
        assert row["engine_us_per_step"] > 0, row
    assert rows["w2"]["steps"] == 1002
    assert rows["w3"]["steps"] == 200
    assert rows["remote"]["skills_us_per_step"] > 0 or not Path("/proc/self/schedstat").exists()
    assert "fsync=on, synchronous_commit=on" in document["conditions"]["PostgreSQL"]
    assert "| two engines | 2 | 1 |" in done.stdout


def test_a_part_can_be_measured_alone() -> None:
    """Work that needs no skill server runs without one; warm-ups do not count."""
    done = benchmarks("--work", "w1", "--n", "1,2", "--reps", "1")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "warm-up: {'work': 'w1', 'n': 1," in done.stdout
    assert "| w1 | 1 | 1 |" in done.stdout
    assert "| w1 | 2 | 1 |" in done.stdout


def test_an_unknown_work_is_refused_before_anything_starts() -> None:
    """A wrong name ends the command at once, with the names there are."""
    done = benchmarks("--work", "w1,w9")
    assert done.returncode == 2
    assert "no such work: w9" in done.stderr
    assert "one20,w1,w2,w3,w4,remote,two,logs" in done.stderr
