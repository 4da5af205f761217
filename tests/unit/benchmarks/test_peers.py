"""Other engines: what their rows become, and what happens where one is not to be had."""

import argparse

import pytest

from benchmarks import peers_table
from benchmarks.figures import Figures
from benchmarks.graphs import CAMPAIGN, levels
from benchmarks.peers.install import NotInstallableError
from benchmarks.peers.turns import PEERS, Peer
from benchmarks.tables import PEERS as NAMES


def row(work: str, n: int, steps: int, seconds: float, p50_ms: float = 1.0) -> dict[str, object]:
    return {"work": work, "n": n, "steps": steps, "seconds": seconds, "p50_ms": p50_ms, "version": "1"}


def noted(**rows: list[dict[str, object]]) -> dict[tuple[str, str, str], float]:
    figures = Figures(lambda line: None)
    peers_table._note(rows, figures)
    return {(each.work, each.what, each.unit): each.median for each in figures.all()}


def test_a_ratio_above_one_means_faster() -> None:
    """More steps a second and less time are both a ratio above 1."""
    found = noted(
        runengine=[row("w1", 200, 2600, 0.5), row("w2", 1, 1002, 0.1), row("one20", 20, 260, 1.0, 4.0)],
        bullmq=[row("w1", 200, 2600, 1.0), row("w2", 1, 1002, 0.2), row("one20", 20, 260, 1.0, 8.0)],
    )
    assert found["w1, N = 200", "RunEngine", "steps/s"] == 5200
    assert found["w1, N = 200", "RunEngine to BullMQ", "×"] == 2
    assert found["w2", "RunEngine to BullMQ", "×"] == pytest.approx(2)
    assert found["one20", "RunEngine to BullMQ", "×"] == 2


def test_remote_skills_are_compared_with_what_could_replace_them() -> None:
    """Our remote skills are compared with a peer's w1, but not with the floor that has no call a step."""
    found = noted(
        runengine=[row("remote", 200, 2600, 1.0)],
        restate=[row("w1", 200, 2600, 2.0)],
        floor=[row("w1", 200, 2600, 0.1)],
    )
    assert found["remote, N = 200", "RunEngine to Restate", "×"] == 2
    assert ("remote, N = 200", "RunEngine to floor", "×") not in found


def test_sizes_that_a_peer_did_not_do_have_no_ratio() -> None:
    """Nothing is made up where a slow peer left a size out."""
    found = noted(runengine=[row("w1", 1000, 13000, 1.0)], dbos=[row("w1", 200, 2600, 1.0)])
    assert not [name for name in found if "to DBOS" in name[1]]


def test_a_peer_that_cannot_be_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out with the installer's words; the others are measured."""

    def refuse() -> None:
        raise NotInstallableError("no such package")

    absent = Peer(title="Absent", install=refuse, program=PEERS["floor"].program)
    monkeypatch.setattr(peers_table, "PEERS", {**PEERS, "absent": absent})
    failed: dict[str, str] = {}
    assert peers_table._installed(["absent", "floor"], failed, lambda line: None) == ["floor"]
    assert failed == {"absent": "not installable here: no such package"}


def test_slow_peers_do_the_smallest_size() -> None:
    """Only ours has remote skills beside its own, and slow peers do not do large bursts."""
    options = argparse.Namespace(work=["w1", "remote"], n=[200, 1000])
    assert peers_table._share("runengine", options) == (["w1", "remote"], [200, 1000])
    assert peers_table._share("dbos", options) == (["w1"], [200])


def test_every_peer_can_be_chosen() -> None:
    """The command line knows the peers there are."""
    assert set(NAMES) == set(PEERS)


def test_levels_keep_dependencies() -> None:
    """Engines without graphs run a level after all levels it needs."""
    place = {step: number for number, level in enumerate(levels(CAMPAIGN)) for step in level}
    assert place.keys() == CAMPAIGN.keys()
    assert all(place[need] < place[step] for step, needs in CAMPAIGN.items() for need in needs)
