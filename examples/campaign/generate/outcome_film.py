"""The outcome films: a burst of rays and confetti for the winner, a grey rain for the loser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from examples.campaign.generate.canvas import Pixels, angle_from, distance_from, glow, gradient, tint, to_image
from examples.campaign.generate.colour import Colour, blend, luminance
from examples.campaign.generate.film import FRAMES_PER_SECOND, HEIGHT, WIDTH, Film, encode_film
from examples.campaign.generate.json_values import seed_from
from examples.campaign.generate.lettering import balance_lines, fit_size, title_sprite
from examples.campaign.generate.look import Look, look_for

SECONDS = 2.5
_CENTRE = (WIDTH / 2, HEIGHT * 0.46)
_FLECKS = 90
_DROPS = 70
_RAYS = 14
_WORDS_LENGTH_MAX = 40  # letters; what is longer is cut, it could not be set legibly


class Outcome(Enum):
    """How the game ended."""

    WIN = "win"
    LOSE = "lose"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fleck:
    """A piece of confetti: launch velocity in pixels a second, size, spin in turns a second, colour."""

    speed_x: float
    speed_y: float
    size: float
    spin: float
    phase: float
    colour: Colour


def film_outcome(outcome: Outcome, style: str, words: str, title: str, progress: Callable[[float], None]) -> Film:
    """Return the film shown at the end of a game, 2.5 s long.

    Args:
        outcome: Win or lose.
        style: Decides palette and motion.
        words: What it says, such as "You win!".
        title: The campaign's; it decides how the pieces fly.
        progress: Told the finished share, 0 … 1, now and then.
    """
    look = look_for(style)
    seed = seed_from("outcome", outcome.value, look.style, title)
    frames = _win_frames(look, words, seed) if outcome is Outcome.WIN else _lose_frames(_faded(look), words, seed)
    return encode_film(_reported(frames, progress), words)


def _reported(frames: Iterator[Image.Image], progress: Callable[[float], None]) -> Iterator[Image.Image]:
    count = round(SECONDS * FRAMES_PER_SECOND)
    for index, frame in enumerate(frames):
        yield frame
        if index % FRAMES_PER_SECOND == 0:
            progress(index / count)


def _times() -> Iterator[float]:
    for index in range(round(SECONDS * FRAMES_PER_SECOND)):
        yield index / FRAMES_PER_SECOND


def _win_frames(look: Look, words: str, seed: int) -> Iterator[Image.Image]:
    ground = gradient(WIDTH, HEIGHT, look.sky_top, look.sky_bottom)
    turns = angle_from(WIDTH, HEIGHT, _CENTRE) * _RAYS
    fade = 0.5 - 0.4 * np.clip(distance_from(WIDTH, HEIGHT, _CENTRE) / (WIDTH * 0.6), 0, 1)
    flecks = _flecks(look, seed)
    sprite = _words_sprite(words, look)
    settled = _scaled(sprite, 1.0)
    for time_s in _times():
        edge = np.clip((np.abs((turns + time_s * 0.55) % 1.0 - 0.5) - 0.25) * 14, -0.5, 0.5) + 0.5
        pixels = tint(ground, look.sun, (edge * fade).astype(np.float32))
        flash = math.exp(-time_s * 3.2)
        pixels = glow(pixels, _CENTRE, WIDTH * (0.30 + 0.25 * flash), look.sun, 0.55 + 0.40 * flash)
        image = to_image(pixels)
        _ring(image, look, time_s)
        _draw_flecks(image, flecks[::2], time_s)
        scale = _bounce(time_s / 0.75)
        _paste_words(image, settled if scale == 1.0 else _scaled(sprite, scale), (0.0, 0.0))
        _draw_flecks(image, flecks[1::2], time_s)
        yield image


def _lose_frames(look: Look, words: str, seed: int) -> Iterator[Image.Image]:
    random = np.random.default_rng(seed)
    ground = _vignette(gradient(WIDTH, HEIGHT, look.sky_top, look.sky_bottom))
    drops = random.uniform(0, 1, (_DROPS, 3))
    settled = _scaled(_words_sprite(words, look), 1.0)
    for time_s in _times():
        image = to_image(ground * np.float32(1 - 0.25 * min(1.0, time_s / SECONDS)))
        _draw_rain(image, drops, look, time_s)
        fallen = min(1.0, time_s / 0.55) ** 2
        since = max(0.0, time_s - 0.55)
        shake = 9 * math.exp(-since * 5) * math.sin(since * 46) if since else 0.0
        sag = 6 * (1 - math.exp(-since * 1.2))
        _paste_words(image, settled, (shake, -HEIGHT * 0.62 * (1 - fallen) + sag))
        _draw_puddle(image, look, since)
        yield image


def _words_sprite(words: str, look: Look) -> Image.Image:
    """The words on one or two lines, drawn at twice the size they are shown at."""
    lines = balance_lines(words[:_WORDS_LENGTH_MAX].upper(), lines_max=2, letters_per_line=14)
    size = fit_size(lines, WIDTH * 0.82 * 2, 190 if len(lines) == 1 else 140)
    is_dark_ink = luminance(look.ink) < 0.5
    foot = blend(look.ink, look.layers[1], 0.4) if is_dark_ink else blend(look.ink, look.sun, 0.7)
    sprites = [title_sprite(line, size, look.ink, foot, look.shadow) for line in lines]
    leading = round(size * 1.12)
    sheet = Image.new("RGBA", (max(sprite.width for sprite in sprites), sprites[0].height + leading * (len(lines) - 1)))
    for index, sprite in enumerate(sprites):
        sheet.alpha_composite(sprite, ((sheet.width - sprite.width) // 2, index * leading))
    return sheet


def _scaled(sprite: Image.Image, scale: float) -> Image.Image:
    """A sprite of double size as it is shown at a scale."""
    size = (max(1, round(sprite.width / 2 * scale)), max(1, round(sprite.height / 2 * scale)))
    return sprite.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _paste_words(image: Image.Image, words: Image.Image, shift: tuple[float, float]) -> None:
    """Put the words around the centre, moved by pixels."""
    corner = (round(_CENTRE[0] - words.width / 2 + shift[0]), round(_CENTRE[1] - words.height / 2 + shift[1]))
    image.paste(words, corner, words)


def _bounce(share: float) -> float:
    """From 0 to 1 with an overshoot, then still."""
    if share >= 1:
        return 1.0
    back = share - 1
    return max(0.0, 1 + 2.7 * back**3 + 1.7 * back**2)


def _ring(image: Image.Image, look: Look, time_s: float) -> None:
    """A shock wave that leaves the picture within the first second."""
    radius = 40 + 520 * time_s
    width = round(26 * (1 - time_s / 0.9))
    if width > 0:
        box = (_CENTRE[0] - radius, _CENTRE[1] - radius, _CENTRE[0] + radius, _CENTRE[1] + radius)
        ImageDraw.Draw(image).ellipse(box, outline=blend(look.sun, look.ink, 0.4), width=width)


def _flecks(look: Look, seed: int) -> list[_Fleck]:
    random = np.random.default_rng(seed)
    colours = (look.accent, look.ink, look.sun, *look.layers[:2])
    flecks = []
    for index in range(_FLECKS):
        turn = random.uniform(-np.pi, 0)
        speed = random.uniform(140, 620)
        flecks.append(
            _Fleck(
                speed_x=float(np.cos(turn) * speed),
                speed_y=float(np.sin(turn) * speed * 0.85),
                size=float(random.uniform(4, 9)),
                spin=float(random.uniform(-2, 2)),
                phase=float(random.uniform(0, 1)),
                colour=colours[index % len(colours)],
            )
        )
    return flecks


def _draw_flecks(image: Image.Image, flecks: list[_Fleck], time_s: float) -> None:
    """Confetti in flight: thrown, slowed by the air, pulled down, tumbling."""
    draw = ImageDraw.Draw(image)
    drag = (1 - math.exp(-1.6 * time_s)) / 1.6
    for fleck in flecks:
        x = _CENTRE[0] + fleck.speed_x * drag
        y = _CENTRE[1] + fleck.speed_y * drag + 46 * time_s**2
        turn = 2 * math.pi * (fleck.phase + fleck.spin * time_s)
        flat = abs(math.cos(turn * 1.3 + fleck.phase * 6)) * 0.5 + 0.1
        along = (math.cos(turn) * fleck.size, math.sin(turn) * fleck.size)
        across = (-math.sin(turn) * fleck.size * flat, math.cos(turn) * fleck.size * flat)
        draw.polygon(
            [
                (x + along[0] + across[0], y + along[1] + across[1]),
                (x + along[0] - across[0], y + along[1] - across[1]),
                (x - along[0] - across[0], y - along[1] - across[1]),
                (x - along[0] + across[0], y - along[1] + across[1]),
            ],
            fill=fleck.colour,
        )


def _faded(look: Look) -> Look:
    """The look with its sky drained towards a cold dark grey and its light gone."""
    cold = (38, 44, 58)
    return replace(
        look,
        sky_top=blend(look.sky_top, (16, 19, 28), 0.78),
        sky_bottom=blend(look.sky_bottom, cold, 0.72),
        sun=blend(look.sun, (150, 160, 178), 0.7),
        ink=(236, 240, 246),
        shadow=(12, 14, 22),
    )


def _vignette(pixels: Pixels) -> Pixels:
    shade = np.clip(distance_from(WIDTH, HEIGHT, _CENTRE) / (WIDTH * 0.62), 0, 1) ** 2 * 0.7
    return tint(pixels, (6, 8, 14), shade.astype(np.float32))


def _draw_rain(image: Image.Image, drops: npt.NDArray[np.float64], look: Look, time_s: float) -> None:
    draw = ImageDraw.Draw(image)
    for x, y, near in drops:
        length = 10 + 22 * near
        top = (y + time_s * (0.7 + 0.9 * near)) % 1.15 * (HEIGHT + length) - length
        left = x * (WIDTH + 80) - top * 0.16
        shade = blend(look.sky_bottom, look.sun, 0.25 + 0.4 * float(near))
        draw.line((left, top, left - length * 0.16, top + length), fill=shade, width=1 + round(float(near)))


def _draw_puddle(image: Image.Image, look: Look, since: float) -> None:
    """Rings that spread on the ground where the words came down."""
    draw = ImageDraw.Draw(image)
    for delay in (0.0, 0.45, 0.9):
        age = since - delay
        if 0 < age < 1.3:
            wide, tall = 60 + 190 * age, 9 + 26 * age
            colour = blend(look.sun, look.sky_bottom, min(1.0, 0.35 + age * 0.5))
            box = (WIDTH / 2 - wide, HEIGHT * 0.80 - tall, WIDTH / 2 + wide, HEIGHT * 0.80 + tall)
            draw.ellipse(box, outline=colour, width=2)
