"""Colours as 8-bit RGB triples, and the few ways of mixing them the campaign needs."""

from __future__ import annotations

import colorsys
from typing import TypeAlias

Colour: TypeAlias = tuple[int, int, int]


def from_hex(code: str) -> Colour:
    """Return the colour of `#rrggbb`.

    Raises:
        ValueError: The code is not six hexadecimal digits behind a `#`.
    """
    digits = code.removeprefix("#")
    if len(digits) != 6:
        raise ValueError(f"not a colour: {code!r}")
    return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)


def to_hex(colour: Colour) -> str:
    """Return `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def from_hls(hue: float, lightness: float, saturation: float) -> Colour:
    """Return the colour at hue (turns), lightness and saturation (0 … 1)."""
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Return `first` at share 0, `second` at share 1, a linear mix between."""
    return (
        round(first[0] + (second[0] - first[0]) * share),
        round(first[1] + (second[1] - first[1]) * share),
        round(first[2] + (second[2] - first[2]) * share),
    )


def luminance(colour: Colour) -> float:
    """Return the perceived brightness, 0 … 1 (Rec. 709 weights)."""
    return (0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]) / 255
