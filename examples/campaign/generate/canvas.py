"""Pixels: gradients, glows, random flecks, and the way to and from files."""

from __future__ import annotations

import io
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from examples.campaign.generate.colour import Colour

Pixels: TypeAlias = npt.NDArray[np.float32]  # shape (height, width, 3), 0 … 255


def gradient(width: int, height: int, top: Colour, bottom: Colour) -> Pixels:
    """Return a vertical gradient, dithered by half a level so that it shows no bands."""
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    ends = np.array([top, bottom], dtype=np.float32)
    dither = np.random.default_rng(7).uniform(-0.5, 0.5, (height, width, 1)).astype(np.float32)
    mixed: Pixels = ends[0] + (ends[1] - ends[0]) * share + dither
    return mixed


def distance_from(width: int, height: int, centre: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Return each pixel's distance from a point, in pixels."""
    x = np.arange(width, dtype=np.float32)[None, :] - centre[0]
    y = np.arange(height, dtype=np.float32)[:, None] - centre[1]
    distance: npt.NDArray[np.float32] = np.hypot(x, y)
    return distance


def angle_from(width: int, height: int, centre: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Return each pixel's direction from a point, in turns, −0.5 … 0.5."""
    x = np.arange(width, dtype=np.float32)[None, :] - centre[0]
    y = np.arange(height, dtype=np.float32)[:, None] - centre[1]
    turns: npt.NDArray[np.float32] = np.arctan2(y, x) / np.float32(2 * np.pi)
    return turns


def tint(pixels: Pixels, colour: Colour, share: npt.NDArray[np.float32]) -> Pixels:
    """Return the pixels moved towards a colour by each one's share (0 … 1)."""
    target = np.array(colour, dtype=np.float32)
    mixed: Pixels = pixels + (target - pixels) * share[:, :, None]
    return mixed


def glow(pixels: Pixels, centre: tuple[float, float], radius: float, colour: Colour, strength: float) -> Pixels:
    """Return the pixels with a soft light around a point."""
    height, width = pixels.shape[:2]
    share = strength * np.exp(-((distance_from(width, height, centre) / radius) ** 2))
    return tint(pixels, colour, share.astype(np.float32))


def to_image(pixels: Pixels) -> Image.Image:
    """Return an RGB image."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")


def to_pixels(image: Image.Image) -> Pixels:
    """Return an image's pixels."""
    return np.asarray(image.convert("RGB"), dtype=np.float32)


def encode_png(image: Image.Image) -> bytes:
    """Return a PNG file without any metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_image(data: bytes) -> Image.Image:
    """Return the image of a file, fully loaded.

    Raises:
        OSError: The bytes are no image, or are cut short.
    """
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
