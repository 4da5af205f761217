"""A still picture of the 3D asset: painted triangle by triangle, nearer over farther."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from examples.campaign.generate.canvas import Pixels, glow, gradient, to_image, to_pixels
from examples.campaign.generate.look import Look
from examples.campaign.generate.shapes import Part, Points

SIZE = 480
_OVERSAMPLING = 2
_TURN, _TILT = math.radians(32), math.radians(20)
_LIGHT = np.array([-0.45, 0.75, 0.55]) / np.linalg.norm([-0.45, 0.75, 0.55])


def draw_preview(parts: Sequence[Part], look: Look) -> Image.Image:
    """Return the parts seen from slightly above, on the sky of a look, 480 × 480."""
    size = SIZE * _OVERSAMPLING
    pixels = glow(
        gradient(size, size, look.sky_top, look.sky_bottom), (size / 2, size / 2), size * 0.42, look.sun, 0.55
    )
    image = to_image(pixels)
    ImageDraw.Draw(image).ellipse((size * 0.24, size * 0.79, size * 0.76, size * 0.92), fill=look.layers[1])
    corners = np.concatenate([_seen(part.points)[part.faces] for part in parts])
    colours = np.concatenate([np.repeat([part.colour], len(part.faces), axis=0) for part in parts])
    gloss = np.concatenate([np.full(len(part.faces), 1 - part.roughness) for part in parts])
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    corners = (corners - np.array([0.0, 0.47, 0.0])) * np.array([1.0, -1.0, 1.0]) * size * 0.76
    corners[:, :, :2] += size * 0.52
    canvas = to_pixels(image).copy()
    _fill(canvas, corners, _lit(colours, normal, gloss), normal[:, 2] > 0)
    return to_image(canvas).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _fill(canvas: Pixels, corners: Points, shades: Points, faces_viewer: npt.NDArray[np.bool_]) -> None:
    """Paint the triangles that face the viewer, each where it is nearer than what was painted before."""
    nearest = np.full(canvas.shape[:2], -np.inf)
    for triangle, shade in zip(corners[faces_viewer], shades[faces_viewer], strict=True):
        left, top = np.floor(triangle[:, :2].min(axis=0)).astype(int)
        right, bottom = np.ceil(triangle[:, :2].max(axis=0)).astype(int) + 1
        x, y = np.arange(left, right)[None, :], np.arange(top, bottom)[:, None]
        (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = triangle
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        second = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
        third = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
        depth = z0 + second * (z1 - z0) + third * (z2 - z0)
        window = (slice(top, bottom), slice(left, right))
        is_seen = (second >= -1e-6) & (third >= -1e-6) & (second + third <= 1 + 1e-6) & (depth > nearest[window])
        nearest[window][is_seen] = depth[is_seen]
        canvas[window][is_seen] = shade


def _seen(points: Points) -> Points:
    """Points turned about the upright axis, then tilted towards the viewer, who looks along −z."""
    x = points[:, 0] * math.cos(_TURN) + points[:, 2] * math.sin(_TURN)
    z = points[:, 2] * math.cos(_TURN) - points[:, 0] * math.sin(_TURN)
    y = (points[:, 1] - 0.5) * math.cos(_TILT) - z * math.sin(_TILT) + 0.5
    return np.stack([x, y, z * math.cos(_TILT) + (points[:, 1] - 0.5) * math.sin(_TILT)], axis=1)


def _lit(colours: Points, normal: Points, gloss: Points) -> Points:
    """Each triangle's colour under one lamp, with a highlight where it is glossy."""
    towards = np.clip(normal @ _LIGHT, 0, 1)[:, None]
    half = _LIGHT + np.array([0.0, 0.0, 1.0])
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1)[:, None] ** 28 * gloss[:, None]
    lit: Points = np.clip(colours * (0.38 + 0.72 * towards) + 190 * shine, 0, 255)
    return lit
