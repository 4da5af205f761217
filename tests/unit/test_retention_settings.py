"""How long things are kept, as an operator says it."""

import pytest

from runengine_server.adapters.postgres.retention import UNREFERENCED_S
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.config import ConfigurationError, read_settings
from runengine_server.configured import retention_of
from runengine_server.planner.step_validation import HOT_TTL_S_MAX

DAY_S = 24 * 3600.0


@pytest.fixture(autouse=True)
def database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one setting that must be there."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere/never")


def kept() -> tuple[float | None, float | None, float | None]:
    """Seconds that runs, events and the audit log are kept by the settings of the environment."""
    settings = retention_of(read_settings(), None, ObserverGroup([]))._settings  # type: ignore[arg-type]
    return settings.runs_s, settings.events_s, settings.audit_s


def test_defaults() -> None:
    """Without a word runs are kept for 30 days, their events for 7 and the audit log for a year."""
    assert kept() == (30 * DAY_S, 7 * DAY_S, 365 * DAY_S)


def test_days_and_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a number of days, or never."""
    monkeypatch.setenv("RUNENGINE_RUN_RETENTION_DAYS", "never")
    monkeypatch.setenv("RUNENGINE_EVENT_RETENTION_DAYS", "1.5")
    monkeypatch.setenv("RUNENGINE_AUDIT_RETENTION_DAYS", "never")
    assert kept() == (None, 1.5 * DAY_S, None)


@pytest.mark.parametrize("value", ["0", "0.9", "-1", "nan", "inf", "40000", "", "soon", "Never"])
def test_what_is_neither(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Anything else stops the server, and less than the day for which request ids are good; it says what to write."""
    monkeypatch.setenv("RUNENGINE_RUN_RETENTION_DAYS", value)
    with pytest.raises(ConfigurationError, match=r"RUNENGINE_RUN_RETENTION_DAYS: .* days from 1 to 36500, or never"):
        read_settings()


def test_hot_values_do_not_outlive_outputs() -> None:
    """An output stays for longer after its last reference than the hot cache can hold a value that names it."""
    assert UNREFERENCED_S >= HOT_TTL_S_MAX + DAY_S
