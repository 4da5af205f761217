"""Cuts the start button out of the intro image, with smooth transparent edges, and makes its pressed state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from examples.campaign.generate.colour import Colour
from examples.campaign.generate.intro_image import Box
from examples.campaign.generate.look import look_for

_EDGE_OVERSAMPLING = 4
_PRESSED_SHADE = 0.30  # how far the pressed button moves towards the style's shadow colour


@dataclass(frozen=True, slots=True, kw_only=True)
class StartButton:
    """The two states of the button, RGBA, both of the box's size."""

    normal: Image.Image
    pressed: Image.Image
    coverage: float  # share of the box that is not fully transparent


def cut_out(picture: Image.Image, box: Box, style: str) -> StartButton:
    """Return the button that lies in a box of a picture.

    Raises:
        ValueError: The box reaches beyond the picture.
    """
    right, bottom = box.left + box.width, box.top + box.height
    if not (0 <= box.left < right <= picture.width and 0 <= box.top < bottom <= picture.height):
        raise ValueError(f"the button's box {box} reaches beyond the picture of {picture.width} × {picture.height}")
    normal = picture.convert("RGB").crop((box.left, box.top, right, bottom))
    mask = _pill(box.width, box.height)
    pressed = _press(normal, look_for(style).shadow)
    normal.putalpha(mask)
    pressed.putalpha(mask)
    opaque = np.count_nonzero(np.asarray(mask)) / (box.width * box.height)
    return StartButton(normal=normal, pressed=pressed, coverage=round(float(opaque), 4))


def _pill(width: int, height: int) -> Image.Image:
    """A rectangle with round ends, drawn large and scaled down."""
    scale = _EDGE_OVERSAMPLING
    large = Image.new("L", (width * scale, height * scale), 0)
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, width * scale - 1, height * scale - 1), radius=height * scale / 2, fill=255
    )
    return large.resize((width, height), Image.Resampling.LANCZOS)


def _press(normal: Image.Image, shade: Colour) -> Image.Image:
    """The button moved down by its lip and darkened."""
    shift = max(1, normal.height // 14)
    moved = Image.new("RGB", normal.size, shade)
    moved.paste(normal, (0, shift))
    return Image.blend(moved, Image.new("RGB", normal.size, shade), _PRESSED_SHADE)
