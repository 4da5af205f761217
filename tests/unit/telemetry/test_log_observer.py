"""The lines operators read, word for word those of the quickstart."""

import logging
from collections.abc import Callable, Iterator

import orjson
import pytest

from runengine_server.adapters.telemetry import LogObserver
from runengine_server.domain.cache import CacheKey
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, StepId, Tenant
from runengine_server.domain.states import CacheTier, OutputSource

from ...support.manual_clock import ManualClock

RUN = RunId("550e8400-e29b-41d4-a716-446655440000")
KEY = CacheKey(
    tenant=Tenant("acme"),
    workflow_name="campaign.build.v1",
    step_id=StepId("generate_bgm"),
    input_hash="a3f2c1" + "0" * 58,
)
SECRET = "payload-and-token"

Tell = Callable[[LogObserver], None]

LINES: list[tuple[str, Tell]] = [
    (f"Run started: runId={RUN}, workflow=campaign.build.v1", lambda o: o.run_started(RUN, "campaign.build.v1")),
    (
        f"Step started: runId={RUN}, stepId=generate_bgm_track",
        lambda o: o.step_started(RUN, "generate_bgm_track", "a.skill"),
    ),
    (
        f"Step completed: runId={RUN}, stepId=generate_bgm_track, durationMs=5234",
        lambda o: o.step_completed(RUN, "generate_bgm_track", "a.skill", 5234),
    ),
    (
        f"Step skipped (cache hit): runId={RUN}, stepId=generate_intro_image",
        lambda o: o.step_skipped(RUN, "generate_intro_image", "a.skill", OutputSource.CACHE_HOT),
    ),
    (
        f"Step skipped (cache hit): runId={RUN}, stepId=generate_intro_image",
        lambda o: o.step_skipped(RUN, "generate_intro_image", "a.skill", OutputSource.CACHE_COLD),
    ),
    (
        f"Step skipped (base run): runId={RUN}, stepId=mix_audio",
        lambda o: o.step_skipped(RUN, "mix_audio", "a.skill", OutputSource.BASE_RUN),
    ),
    (
        f"Step skipped (joined): runId={RUN}, stepId=mix_audio",
        lambda o: o.step_skipped(RUN, "mix_audio", "a.skill", OutputSource.JOINED),
    ),
    (
        f"Step failed: runId={RUN}, stepId=mix_audio, error=SKILL_TIMEOUT, attempt=2",
        lambda o: o.step_failed(
            RUN, "mix_audio", "a.skill", Failure(code="SKILL_TIMEOUT", message=SECRET, details={"a": SECRET}), 2
        ),
    ),
    (f"Run completed: runId={RUN}, totalDurationMs=45678", lambda o: o.run_completed(RUN, 45678)),
    (
        f"Run failed: runId={RUN}, failedStep=mix_audio, error=MAX_RETRIES_EXCEEDED",
        lambda o: o.run_failed(RUN, "mix_audio", "MAX_RETRIES_EXCEEDED"),
    ),
    (
        f"Run failed: runId={RUN}, failedStep=-, error=RUN_DEADLINE_EXCEEDED",
        lambda o: o.run_failed(RUN, "", "RUN_DEADLINE_EXCEEDED"),
    ),
    (f"Run cancelled: runId={RUN}", lambda o: o.run_cancelled(RUN)),
    ("Cache hit (Redis): campaign.build.v1:generate_bgm:a3f2c1...", lambda o: o.cache_hit(KEY, CacheTier.HOT)),
    ("Cache hit (DB): campaign.build.v1:generate_bgm:a3f2c1...", lambda o: o.cache_hit(KEY, CacheTier.COLD)),
    ("Cache miss: campaign.build.v1:generate_bgm:a3f2c1...", lambda o: o.cache_miss(KEY)),
    (
        "Engine lease lost: continuing under a new number",
        lambda o: o.engine_lost(),
    ),
    ("Database unavailable: error=connection refused", lambda o: o.database_unavailable("connection\n refused")),
]


@pytest.fixture(autouse=True)
def level() -> Iterator[Callable[[str, int], None]]:
    """Sets loggers' levels; the engine's are INFO."""
    names = ("runengine", "runengine.run", "runengine.step", "runengine.cache", "runengine.engine")
    before = {name: logging.getLogger(name).level for name in names}
    logging.getLogger("runengine").setLevel(logging.INFO)
    yield lambda name, number: logging.getLogger(name).setLevel(number)
    for name, number in before.items():
        logging.getLogger(name).setLevel(number)


@pytest.mark.parametrize(("line", "tell"), LINES, ids=[line.partition(": ")[0] for line, _ in LINES])
def test_each_line_is_written_as_documented(line: str, tell: Tell) -> None:
    """On a terminal each fact is exactly its line, in full and with nothing else."""
    assert _told(tell, is_json=False) == [f"[RunEngine] {line}\n".encode()]


@pytest.mark.parametrize(("line", "tell"), LINES, ids=[line.partition(": ")[0] for line, _ in LINES])
def test_json_carries_the_line_as_message(line: str, tell: Tell) -> None:
    """As JSON each fact is one line with time, level, event and the line itself, and no secret of the failure."""
    (written,) = _told(tell, is_json=True)
    fields = orjson.loads(written)
    assert written.count(b"\n") == 1
    assert fields["message"] == f"[RunEngine] {line}"
    assert fields["timestamp"] == "2026-11-22T10:00:00.250000Z"
    assert fields["level"] in ("info", "warning", "error")
    assert fields["event"].replace("_", " ") in fields["message"].lower() or fields["event"] == "engine_lost"
    assert SECRET.encode() not in written


def test_json_has_the_fields_of_the_line() -> None:
    """Every `name=value` of a line stands in the JSON under the same name."""
    for line, tell in LINES:
        fields = orjson.loads(_told(tell, is_json=True)[0])
        for pair in line.partition(": ")[2].split(", "):
            name, is_pair, value = pair.partition("=")
            if is_pair:
                assert str(fields[name] or "-") == value


def test_json_names_the_cache_key_in_full() -> None:
    """A cache line's JSON has the whole hash, the tier and the key's parts."""
    fields = orjson.loads(_told(lambda o: o.cache_hit(KEY, CacheTier.COLD), is_json=True)[0])
    assert fields["inputHash"] == KEY.input_hash
    assert (fields["workflow"], fields["stepId"], fields["tier"]) == ("campaign.build.v1", "generate_bgm", "COLD")


@pytest.mark.parametrize("code", ["A\n[RunEngine] Run completed: runId=x", "\x1b[31m", "X" * 1000])
@pytest.mark.parametrize("is_json", [False, True])
def test_a_skill_cannot_forge_lines(code: str, is_json: bool) -> None:
    """A code with control characters or of absurd length is not repeated."""
    (step,) = _told(
        lambda o: o.step_failed(RUN, "mix_audio", "a.skill", Failure(code=code, message=""), 1), is_json=is_json
    )
    (run,) = _told(lambda o: o.run_failed(RUN, "mix_audio", code), is_json=is_json)
    assert b"INVALID_CODE" in step
    assert b"INVALID_CODE" in run
    assert code.encode() not in step + run


def test_levels_switch_kinds_of_lines_off(level: Callable[[str, int], None]) -> None:
    """Raising `runengine.step` and `runengine.cache` leaves the runs' lines and the failures."""
    level("runengine.step", logging.WARNING)
    level("runengine.cache", logging.WARNING)

    def tell(observer: LogObserver) -> None:
        for _, tell_one in LINES:
            tell_one(observer)

    words = {line.decode().split("[RunEngine] ")[1].partition(":")[0] for line in _told(tell, is_json=False)}
    assert words == {
        "Run started", "Run completed", "Run failed", "Run cancelled", "Step failed",
        "Engine lease lost", "Database unavailable",
    }  # fmt: skip


def test_an_internal_failure_says_where_and_not_what_the_error_quotes() -> None:
    """The traceback's places are logged, the error's own text is not."""

    def tell(observer: LogObserver) -> None:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            observer.internal_failure("run 7, step 1", error)

    (console,) = _told(tell, is_json=False)
    assert console.startswith(b"[RunEngine] Internal failure: run 7, step 1, error=KeyError\n")
    (written,) = _told(tell, is_json=True)
    assert "test_log_observer.py" in orjson.loads(written)["traceback"]
    assert "SECRET" in orjson.loads(written)["traceback"], "the source line is shown"
    assert SECRET.encode() not in console + written


def test_an_absent_database_is_not_repeated_at_once() -> None:
    """However often it is told, one line in five seconds says it."""
    clock = ManualClock(1_795_341_600.25)
    lines: list[bytes] = []
    observer = LogObserver(lines.append, clock, is_json=False)
    for _ in range(20):
        observer.database_unavailable("away")
        clock.at += 0.5
    assert len(lines) == 2


def _told(tell: Tell, *, is_json: bool) -> list[bytes]:
    lines: list[bytes] = []
    tell(LogObserver(lines.append, ManualClock(1_795_341_600.25), is_json=is_json))
    return lines
