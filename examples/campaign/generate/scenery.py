"""Paints the scenery of a look: sky, sun and three layers of land, each motif in its own way."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from examples.campaign.generate.canvas import angle_from, distance_from, glow, gradient, tint, to_image
from examples.campaign.generate.colour import blend, luminance
from examples.campaign.generate.look import Look, Motif

_HORIZON = 0.60  # share of the height
_NEON_LUMINANCE_MIN = 0.2  # darker shadows make no visible grid; the accent does instead


def paint(look: Look, width: int, height: int, seed: int) -> Image.Image:
    """Return the scenery of a look; the seed moves its details (ridges, waves, flecks)."""
    random = np.random.default_rng(seed)
    match look.motif:
        case Motif.RAYS:
            return _rays(look, width, height, random)
        case Motif.PEAKS:
            return _peaks(look, width, height, random)
        case Motif.WAVES:
            return _waves(look, width, height, random)
        case Motif.GRID:
            return _grid(look, width, height, random)


def _rays(look: Look, width: int, height: int, random: np.random.Generator) -> Image.Image:
    """A burst of light behind the title, dunes of colour below, flecks of confetti."""
    centre = (width * 0.5, height * 0.44)
    pixels = gradient(width, height, look.sky_top, look.sky_bottom)
    turns = angle_from(width, height, centre) * 18 + float(random.uniform(0, 1))
    edge = np.clip((np.abs(turns % 1.0 - 0.5) - 0.25) * 24, -0.5, 0.5) + 0.5
    reach = np.clip(distance_from(width, height, centre) / (width * 0.62), 0, 1)
    pixels = tint(pixels, look.sun, (edge * (0.34 - 0.26 * reach)).astype(np.float32))
    pixels = glow(pixels, centre, width * 0.30, look.sun, 0.55)
    image = to_image(pixels)
    _confetti(image, look, random)
    for index, layer in enumerate(look.layers):
        base = 0.80 + index * 0.065
        _ridge(image, layer, _swell(width, height, base, 0.035, 1.2 + index * 0.5, random))
    return image


def _peaks(look: Look, width: int, height: int, random: np.random.Generator) -> Image.Image:
    """A low sun behind three ranges of mountains, stars above."""
    centre = (width * 0.5, height * 0.62)
    pixels = gradient(width, height, look.sky_top, look.sky_bottom)
    pixels = glow(pixels, centre, width * 0.36, look.sun, 0.60)
    image = to_image(pixels)
    draw = ImageDraw.Draw(image)
    _stars(draw, look, width, round(height * 0.5), random)
    radius = height * 0.19
    draw.ellipse((centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius), fill=look.sun)
    for index, layer in enumerate(look.layers):
        ridge = _crags(width, height, 0.70 + index * 0.11, 0.17 - index * 0.035, random)
        _ridge(image, layer, ridge)
        lit = blend(layer, look.sun, 0.28 - index * 0.07)
        draw.line(ridge, fill=lit, width=max(2, height // 360), joint="curve")
    return image


def _waves(look: Look, width: int, height: int, random: np.random.Generator) -> Image.Image:
    """A pale sun with rings over a calm sea."""
    centre = (width * 0.5, height * 0.40)
    pixels = glow(gradient(width, height, look.sky_top, look.sky_bottom), centre, width * 0.30, look.sun, 0.75)
    far = distance_from(width, height, centre)
    for ring in (0.42, 0.56, 0.70):
        pixels = tint(pixels, look.sun, (np.clip(1 - far + height * ring, 0, 1) * 0.16).astype(np.float32))
    image = to_image(pixels)
    draw = ImageDraw.Draw(image)
    for index, layer in enumerate(look.layers):
        ridge = _swell(width, height, 0.72 + index * 0.09, 0.022, 1.6 + index * 0.9, random)
        _ridge(image, layer, ridge)
        draw.line(ridge, fill=blend(layer, look.sun, 0.45), width=max(2, height // 270), joint="curve")
    return image


def _grid(look: Look, width: int, height: int, random: np.random.Generator) -> Image.Image:
    """A striped sun over a wire-frame plain."""
    horizon = height * _HORIZON
    image = to_image(gradient(width, height, look.sky_top, look.sky_bottom))
    draw = ImageDraw.Draw(image)
    _stars(draw, look, width, round(horizon * 0.8), random)
    _striped_sun(image, look, (width * 0.5, horizon * 0.80), height * 0.33)
    _ridge(image, look.layers[0], _crags(width, height, _HORIZON - 0.01, 0.07, random))
    neon = look.shadow if luminance(look.shadow) > _NEON_LUMINANCE_MIN else look.accent
    far_ground = blend(look.layers[2], neon, 0.35)
    image.paste(to_image(gradient(width, height - round(horizon), far_ground, look.layers[2])), (0, round(horizon)))
    line = max(2, height // 360)
    for index in range(-16, 17):
        far, near = width * (0.5 + index * 0.035), width * (0.5 + index * 0.22)
        draw.line((far, horizon, near, height), neon, line)
    for index in range(9):
        y = horizon + (height - horizon) * (index / 8) ** 2.1
        draw.line((0, y, width, y), neon, line)
    draw.line((0, horizon, width, horizon), look.accent, line * 2)
    return image


def _striped_sun(image: Image.Image, look: Look, centre: tuple[float, float], radius: float) -> None:
    size = round(radius * 2)
    foot = look.shadow if luminance(look.shadow) > _NEON_LUMINANCE_MIN else look.sky_bottom
    disc = to_image(gradient(size, size, look.sun, foot))
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    draw.ellipse((0, 0, size - 1, size - 1), fill=255)
    for index in range(7):
        top = size * (0.46 + index * 0.08)
        draw.rectangle((0, top, size, top + size * (0.008 + index * 0.006)), fill=0)
    image.paste(disc, (round(centre[0] - radius), round(centre[1] - radius)), mask)


def _ridge(image: Image.Image, colour: tuple[int, int, int], line: list[tuple[float, float]]) -> None:
    """Fill everything below a line."""
    corners = [(float(image.width), float(image.height)), (0.0, float(image.height))]
    ImageDraw.Draw(image).polygon(line + corners, fill=colour)


def _swell(
    width: int, height: int, base: float, depth: float, cycles: float, random: np.random.Generator
) -> list[tuple[float, float]]:
    """A soft wave across the image; base and depth are shares of the height."""
    phase, second = random.uniform(0, 2 * np.pi, 2)
    x = np.linspace(0, 1, 161)
    wave = np.sin(2 * np.pi * cycles * x + phase) + 0.4 * np.sin(2 * np.pi * cycles * 2.3 * x + second)
    return [(float(a * width), float((base + depth * b) * height)) for a, b in zip(x, wave, strict=True)]


def _crags(
    width: int, height: int, base: float, depth: float, random: np.random.Generator
) -> list[tuple[float, float]]:
    """A mountain ridge by midpoint displacement, lower towards the middle so that the sun shows."""
    heights = random.uniform(-0.2, 0.2, 3)
    swing = 0.6
    while len(heights) < 120:
        middles = (heights[:-1] + heights[1:]) / 2 + random.uniform(-swing, swing, len(heights) - 1)
        heights = np.insert(middles, np.arange(len(heights) - 1), heights[:-1])
        heights = np.append(heights, random.uniform(-0.2, 0.2))
        swing *= 0.52
    x = np.linspace(0, 1, len(heights))
    rise = heights + 0.9 * np.abs(x - 0.5) * 2 - 0.2
    return [(float(a * width), float((base - depth * b) * height)) for a, b in zip(x, rise, strict=True)]


def _stars(draw: ImageDraw.ImageDraw, look: Look, width: int, height: int, random: np.random.Generator) -> None:
    for x, y, size in zip(
        random.uniform(0, width, 90), random.uniform(0, height, 90), random.uniform(0.0006, 0.0018, 90), strict=True
    ):
        radius = size * width
        shade = blend(look.sky_top, look.ink, float(random.uniform(0.35, 0.95)))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)


def _confetti(image: Image.Image, look: Look, random: np.random.Generator) -> None:
    """Flecks that fly away from the middle, larger towards the edges."""
    draw = ImageDraw.Draw(image)
    colours = (look.sun, look.ink, look.layers[0], look.accent, look.layers[1])
    for index in range(70):
        turn, far = random.uniform(0, 2 * np.pi), random.uniform(0.22, 0.62)
        x = image.width * (0.5 + far * np.cos(turn))
        y = image.height * 0.44 + image.width * far * np.sin(turn) * 0.62
        size = image.width * (0.004 + 0.010 * far) * random.uniform(0.6, 1.3)
        spin = random.uniform(0, np.pi)
        along = np.array([np.cos(spin), np.sin(spin)]) * size
        across = np.array([-np.sin(spin), np.cos(spin)]) * size * 0.45
        middle = np.array([x, y])
        corners = [middle + along + across, middle + along - across, middle - along - across, middle - along + across]
        draw.polygon([(float(a), float(b)) for a, b in corners], fill=colours[index % len(colours)])
