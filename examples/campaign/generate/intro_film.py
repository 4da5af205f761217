"""The intro loop: the intro image breathes, lights drift, the start button pulses; its end meets its start."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from examples.campaign.generate.canvas import Pixels, glow, to_image, to_pixels
from examples.campaign.generate.film import FRAMES_PER_SECOND, HEIGHT, WIDTH, Film, encode_film, wave_at
from examples.campaign.generate.intro_image import Box
from examples.campaign.generate.json_values import seed_from
from examples.campaign.generate.look import Look, Motif, look_for

SECONDS = 3
_ZOOM = 0.035
_LIGHTS = 26
_SWEEP_WIDTH, _SWEEP_STRENGTH = 46, 30  # pixels, levels of 255
_RISE = {Motif.RAYS: 2, Motif.PEAKS: 1, Motif.WAVES: 1, Motif.GRID: 1}  # times a light crosses the picture in a loop


@dataclass(frozen=True, slots=True, kw_only=True)
class _Light:
    """A soft fleck: where it starts (shares of the picture), its radius in pixels, its sway and phase."""

    x: float
    y: float
    radius: float
    sway: float
    phase: float


def film_intro(
    picture: Image.Image, button: Image.Image, box: Box, style: str, title: str, progress: Callable[[float], None]
) -> Film:
    """Return the loop of an intro image with its cut-out button, 3 s long.

    Args:
        picture: The intro image.
        button: The button cut out of it, RGBA.
        box: Where the button lies in the picture.
        style: Decides the motion and colour of the lights.
        title: Written into the file's metadata; also decides where the lights start.
        progress: Told the finished share, 0 … 1, now and then.
    """
    return encode_film(_frames(picture.convert("RGB"), button, box, look_for(style), title, progress), title)


def _frames(
    picture: Image.Image, button: Image.Image, box: Box, look: Look, title: str, progress: Callable[[float], None]
) -> Iterator[Image.Image]:
    lights = _lights(seed_from("lights", look.style, title))
    count = SECONDS * FRAMES_PER_SECOND
    scale = picture.width / WIDTH
    middle = ((box.left + box.width / 2) / scale, (box.top + box.height / 2) / scale)
    for index in range(count):
        share = index / count
        zoom = 1 + _ZOOM * wave_at(share)
        pixels = _zoomed(picture, zoom, middle, scale)
        pulse = wave_at(share * 2 % 1)
        pixels = glow(pixels, middle, button.width / scale * 0.62, look.accent, 0.30 * pulse)
        _add_lights(pixels, lights, look, share)
        _add_sweep(pixels, share)
        image = to_image(pixels)
        _paste_button(image, button, middle, zoom / scale * (1 + 0.06 * pulse))
        yield image
        if index % FRAMES_PER_SECOND == 0:
            progress(share)


def _zoomed(picture: Image.Image, zoom: float, middle: tuple[float, float], scale: float) -> Pixels:
    """The picture at the film's size, enlarged around a point that stays where it is."""
    step = scale / zoom
    corner = (middle[0] * scale - middle[0] * step, middle[1] * scale - middle[1] * step)
    moved = picture.transform(
        (WIDTH, HEIGHT), Image.Transform.AFFINE, (step, 0, corner[0], 0, step, corner[1]), Image.Resampling.BICUBIC
    )
    return to_pixels(moved).copy()


def _lights(seed: int) -> list[_Light]:
    random = np.random.default_rng(seed)
    return [
        _Light(
            x=float(random.uniform(0, 1)),
            y=float(random.uniform(0, 1)),
            radius=float(random.uniform(2.0, 9.0)),
            sway=float(random.uniform(0.004, 0.02)),
            phase=float(random.uniform(0, 1)),
        )
        for _ in range(_LIGHTS)
    ]


def _add_lights(pixels: Pixels, lights: list[_Light], look: Look, share: float) -> None:
    """Lights that rise and sway; each is back at its start when the loop ends, unseen while it jumps."""
    colour = np.array(look.sun, dtype=np.float32)
    for light in lights:
        climb = (light.y + share * _RISE[look.motif]) % 1.0
        x = (light.x + light.sway * math.sin(2 * math.pi * (share + light.phase))) * WIDTH
        strength = 0.75 * math.sin(math.pi * climb) * (0.6 + 0.4 * wave_at((share * 2 + light.phase) % 1.0))
        _add_fleck(pixels, (x, (1.05 - 1.1 * climb) * HEIGHT), light.radius, colour * np.float32(strength))


def _add_fleck(pixels: Pixels, centre: tuple[float, float], radius: float, colour: Pixels) -> None:
    reach = math.ceil(radius * 2)
    left, top = max(0, int(centre[0]) - reach), max(0, int(centre[1]) - reach)
    right, bottom = min(WIDTH, int(centre[0]) + reach), min(HEIGHT, int(centre[1]) + reach)
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(centre[0])
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(centre[1])
    soft = np.exp(-(x**2 + y**2) / np.float32(radius**2))
    pixels[top:bottom, left:right] += soft[:, :, None] * colour


def _add_sweep(pixels: Pixels, share: float) -> None:
    """A band of light that crosses the picture once, in the middle third of the loop."""
    place = (share - 0.30) / 0.40
    if not 0 <= place <= 1:
        return
    x = np.arange(WIDTH, dtype=np.float32)[None, :] + np.arange(HEIGHT, dtype=np.float32)[:, None] * np.float32(0.5)
    centre = np.float32(-120 + place * (WIDTH + HEIGHT * 0.5 + 240))
    pixels += (np.exp(-(((x - centre) / np.float32(_SWEEP_WIDTH)) ** 2)) * np.float32(_SWEEP_STRENGTH))[:, :, None]


def _paste_button(image: Image.Image, button: Image.Image, middle: tuple[float, float], scale: float) -> None:
    """Lay the button over its picture; placed to a fraction of a pixel, so that it does not tremble."""
    size = (math.ceil(button.width * scale) + 4, math.ceil(button.height * scale) + 4)
    left, top = math.floor(middle[0] - size[0] / 2), math.floor(middle[1] - size[1] / 2)
    back = 1 / scale
    shift_x = button.width / 2 - (middle[0] - left) * back
    shift_y = button.height / 2 - (middle[1] - top) * back
    # Premultiplied, so that the transparent surroundings do not darken the edge.
    placed = button.convert("RGBa").transform(
        size, Image.Transform.AFFINE, (back, 0, shift_x, 0, back, shift_y), Image.Resampling.BILINEAR
    )
    sprite = placed.convert("RGBA")
    image.paste(sprite, (left, top), sprite)
