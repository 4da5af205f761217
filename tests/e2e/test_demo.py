"""The demo keeps its promises, and leaves nothing running or lying about, however it ends."""

import re
import signal
import sys
from pathlib import Path

import pytest

from ..support.processes import ManagedProcess, wait_until

pytest.importorskip("av", reason="the campaign extra is not installed")

DEMO_S_MAX = 150
GONE_S_MAX = 30


def start_demo(folder: Path) -> ManagedProcess:
    command = [sys.executable, "-m", "examples.campaign.demo", "--output", folder / "out"]
    return ManagedProcess(command, log_path=folder / "demo.log")


def processes_of(demo: ManagedProcess, data_dir: str) -> set[int]:
    """The demo, its children and whatever has the data directory in its command line or as working directory."""
    found = {demo.process.pid}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            place = str((entry / "cwd").readlink())
        except OSError:
            continue
        if parent == demo.process.pid or data_dir in command or place.startswith(data_dir):
            found.add(int(entry.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def data_dir_of(demo: ManagedProcess) -> str:
    found = re.search(r"PostgreSQL and Valkey in (\S+)", demo.log)
    assert found, demo.log
    return found[1]


def test_demo(tmp_path: Path) -> None:
    """13 executed, then 4 executed and 9 reused, then none; the files stay, the databases are gone."""
    with start_demo(tmp_path) as demo:
        assert demo.process.wait(DEMO_S_MAX) == 0, demo.log
    said = demo.log
    for promised in (
        "13 steps: 13 completed\n",
        "Update run queued - 4 steps will be re-executed\n",
        "13 steps: 4 completed, 9 skipped\n",
        "Update run completed - 0 steps will be re-executed\n",
        "13 steps: 13 skipped\n",
    ):
        assert promised in said
    before, after = (
        {path.name: path.read_bytes() for path in (tmp_path / "out" / name).iterdir()}
        for name in ("1-build", "2-epic-audio")
    )
    assert before.keys() == after.keys()
    assert {Path(name).suffix for name in after} == {".png", ".wav", ".mp4", ".glb", ".json"}
    changed = {name for name in after if before[name] != after[name]}
    assert {name for name in changed if not name.startswith("sfx_")} == {
        "bgm.wav",
        "game_mix.wav",
        "campaign_manifest.json",
    }
    assert not Path(data_dir_of(demo)).exists()
    assert not (tmp_path / "out" / ".store").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_nothing_is_left(tmp_path: Path, number: signal.Signals) -> None:
    """A demo that is killed or interrupted in the middle takes its servers, their data and its children along."""
    with start_demo(tmp_path) as demo:
        wait_until(lambda: "7 in parallel" in demo.log, "seven steps run", timeout_s=60)
        data_dir = data_dir_of(demo)
        processes = processes_of(demo, data_dir)
        assert len(processes) > 6, "databases, skills and engine were running"
        demo.process.send_signal(number)
        demo.process.wait(GONE_S_MAX)
    wait_until(lambda: not any(map(is_running, processes)), "every process has ended", timeout_s=GONE_S_MAX)
    wait_until(lambda: not Path(data_dir).exists(), "the data directory is gone", timeout_s=GONE_S_MAX)


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    """A folder with somebody's files in it is not emptied: the demo says so and ends."""
    (tmp_path / "out").mkdir()
    precious = tmp_path / "out" / "thesis.txt"
    precious.write_text("years of work")
    with start_demo(tmp_path) as demo:
        assert demo.process.wait(30) == 2
    assert "holds something that no demo made" in demo.log
    assert precious.read_text() == "years of work"
