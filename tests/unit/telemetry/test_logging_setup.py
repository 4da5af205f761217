"""One stream, one format, for the engine's lines and for everyone else's."""

import io
import logging

import orjson
import pytest

from runengine_server.adapters.telemetry import LogFormat, logging_to


class Terminal(io.TextIOWrapper):
    """A text stream that says it is, or is not, a terminal; `text` is what was written."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def text(self) -> str:
        return self._bytes.getvalue().decode()


@pytest.mark.parametrize(
    ("log_format", "is_terminal", "is_json"),
    [
        (LogFormat.AUTO, True, False),
        (LogFormat.AUTO, False, True),
        (LogFormat.CONSOLE, False, False),
        (LogFormat.JSON, True, True),
    ],
)
def test_the_format_follows_the_setting_and_the_terminal(
    log_format: LogFormat, is_terminal: bool, is_json: bool
) -> None:
    """People at a terminal get lines, machines JSON, and a setting overrides both."""
    stream = Terminal(is_terminal=is_terminal)
    with logging_to(stream, log_format=log_format) as setup:
        assert setup.is_json is is_json
        logging.getLogger("some.module").warning("careful: %s", "ü")
    if is_json:
        fields = orjson.loads(stream.text)
        assert (fields["message"], fields["level"], fields["logger"]) == ("careful: ü", "warning", "some.module")
        assert fields["timestamp"].endswith("Z")
    else:
        assert "careful: ü" in stream.text


def test_engine_lines_and_records_share_the_stream_in_order() -> None:
    """What is written directly and what comes through logging appears in the order it was said."""
    stream = Terminal()
    with logging_to(stream, log_format=LogFormat.JSON) as setup:
        for at in range(5):
            setup.writer.write(b'{"message":"line %d"}\n' % at)
            logging.getLogger("x").warning("record %d", at)
    messages = [orjson.loads(line)["message"] for line in stream.text.splitlines()]
    assert messages == [f"{kind} {at}" for at in range(5) for kind in ("line", "record")]


def test_an_exception_is_one_json_line() -> None:
    """A traceback is a field of its record, not lines of its own."""
    stream = Terminal()
    with logging_to(stream, log_format=LogFormat.JSON):
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            logging.getLogger("x").exception("it happened")
    (line,) = stream.text.splitlines()
    assert "RuntimeError: broken" in orjson.loads(line)["exception"]


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_secrets_in_extra_fields_are_removed(log_format: LogFormat) -> None:
    """Fields named like tokens or payloads never show their value, whoever logs them."""
    stream = Terminal()
    with logging_to(stream, log_format=log_format):
        logging.getLogger("x").warning("called", extra={"auth_token": "s3cret", "trigger_payload": "s3cret", "n": 1})
    assert "s3cret" not in stream.text
    assert "auth_token" in stream.text


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_tracebacks_show_no_variables(log_format: LogFormat, is_terminal: bool) -> None:
    """An exception is logged with where it happened, and without the values of the variables there."""
    stream = Terminal(is_terminal=is_terminal)
    held = "".join(("s3c", "ret"))

    def fail() -> None:
        token = held
        raise RuntimeError(f"about {len(token)} characters")

    with logging_to(stream, log_format=log_format):
        try:
            fail()
        except RuntimeError:
            logging.getLogger("x").exception("it happened")
    assert "about 6 characters" in stream.text and "in fail" in stream.text
    assert held not in stream.text


def test_levels_are_set_and_restored() -> None:
    """Inside the block the given levels hold, for all and by name; afterwards those from before, and the handlers."""
    root, named = logging.getLogger(), logging.getLogger("runengine.step")
    before = (root.level, root.handlers[:], named.level)
    stream = Terminal()
    with logging_to(stream, level="warning", levels={"runengine.step": "debug"}):
        logging.getLogger("quiet").info("no")
        named.debug("yes")
    assert [orjson.loads(line)["message"] for line in stream.text.splitlines()] == ["yes"]
    assert (root.level, root.handlers[:], named.level) == before


def test_an_unknown_level_is_refused_with_the_choices() -> None:
    """A misspelt level stops the start and says what there is."""
    with pytest.raises(ValueError, match="choose debug"), logging_to(Terminal(), level="loud"):
        pass
