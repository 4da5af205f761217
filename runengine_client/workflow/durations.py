"""Reads and writes durations as people put them into files: "24h", "1h30m", "250ms"."""

import re
from datetime import timedelta

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_duration(text: str) -> timedelta:
    """The span a text such as "1h30m" means.

    Raises:
        ValueError: it is not one; the message shows what is.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'{text!r} is not a duration such as "60s", "250ms" or "1h30m"')
    try:
        return timedelta(milliseconds=sum(float(number) * _UNITS_MS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any duration can be") from None


def format_duration(span: timedelta) -> str:
    """The shortest text that `parse_duration` reads as this span."""
    rest_us = span // timedelta(microseconds=1)
    text = ""
    for unit in ("h", "m", "s"):
        count, rest_us = divmod(rest_us, _UNITS_MS[unit] * 1_000)
        text += f"{count}{unit}" if count else ""
    if rest_us:
        text += f"{rest_us / 1_000:.3f}".rstrip("0").rstrip(".") + "ms"
    return text or "0s"
