"""Unusable binaries, versions and ports are told apart, and the message says what to do."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runengine_server.adapters.embedded import EmbeddedError, binaries, port, start_postgres, start_valkey


@pytest.fixture
def old_postgres(data_dir: Path) -> Path:
    """A bin directory whose server says that it is version 14."""
    bin_dir = data_dir.parent / "old" / "bin"
    bin_dir.mkdir(parents=True)
    for path in (bin_dir.parent, bin_dir):
        path.chmod(0o755)
    for name in ("postgres", "initdb"):
        (bin_dir / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.2'\n")
        (bin_dir / name).chmod(0o755)
    return bin_dir


@pytest.fixture
def taken_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that another program listens on, and that the first search takes for free."""
    real = port.free_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = int(other.getsockname()[1])
        found = iter([taken])
        monkeypatch.setattr(port, "free_port", lambda: next(found, None) or real())
        yield taken


def test_unsupported_version(old_postgres: Path) -> None:
    """A server outside 15 to 18 is refused with its version and the supported ones."""
    with pytest.raises(EmbeddedError, match=r"15 to 18 .*version 14"), start_postgres(postgres_bin=old_postgres):
        pass


def test_variable_comes_before_the_wheel(old_postgres: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUNENGINE_POSTGRES_BIN is used and not silently passed over."""
    monkeypatch.setenv("RUNENGINE_POSTGRES_BIN", str(old_postgres))
    with pytest.raises(EmbeddedError, match="version 14"), start_postgres():
        pass


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wheel and system packages the message names what to install."""
    monkeypatch.setattr(binaries, "_postgres_candidates", lambda: iter(()))
    monkeypatch.setattr(binaries, "_valkey_candidates", lambda: iter(()))
    with pytest.raises(EmbeddedError, match=r"runengine\[embedded\].*RUNENGINE_POSTGRES_BIN"), start_postgres():
        pass
    with pytest.raises(EmbeddedError, match=r"runengine\[embedded\].*RUNENGINE_VALKEY_BIN"), start_valkey():
        pass


def test_system_follows_the_wheel(old_postgres: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unsuitable system version is passed over for a suitable one."""
    suitable = list(binaries._postgres_candidates())
    monkeypatch.setattr(binaries, "_postgres_candidates", lambda: iter([old_postgres, *suitable]))
    with start_postgres() as running:
        assert running.bin_dir != old_postgres


def test_other_major_version_of_the_data(data_dir: Path) -> None:
    """Data of another major version is refused untouched, with both versions."""
    with start_postgres(data_dir):
        pass
    (data_dir / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match=r"created by PostgreSQL 16, but .* is version"), start_postgres(data_dir):
        pass
    assert (data_dir / "postgres" / "PG_VERSION").read_text() == "16\n"


def test_interrupted_creation_is_begun_again(data_dir: Path) -> None:
    """What a killed initdb left behind is not taken for a cluster."""
    (data_dir / "postgres.new").mkdir(parents=True)
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")
    with start_postgres(data_dir):
        assert not (data_dir / "postgres.new").exists()


def test_failed_start_shows_the_log_and_leaves_nothing() -> None:
    """A setting the server rejects fails with its own words."""
    with pytest.raises(EmbeddedError, match="no_such_setting"), start_postgres(settings={"no_such_setting": "1"}):
        pass
    with pytest.raises(EmbeddedError, match="no-such-directive"), start_valkey(settings={"no-such-directive": "1"}):
        pass


def test_postgres_asks_for_another_port(taken_port: int) -> None:
    """PostgreSQL starts although another program took the port between search and bind."""
    with start_postgres() as running:
        assert f":{taken_port}/" not in running.tcp_url
        assert "already in use" in running.log_path.read_text()
        assert running.data_dir.is_dir()


def test_valkey_asks_for_another_port(taken_port: int) -> None:
    """Valkey starts although another program took the port between search and bind."""
    with start_valkey() as running:
        assert f":{taken_port}/" not in running.url
        assert "already in use" in running.log_path.read_text().lower()
