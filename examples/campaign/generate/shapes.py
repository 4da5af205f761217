"""The shapes a campaign's 3D asset can have, as coloured parts of fine triangle meshes.

Units are metres, y points up, every shape stands on y = 0 and is about one metre tall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from examples.campaign.generate.colour import Colour, blend
from examples.campaign.generate.look import Look

Points: TypeAlias = npt.NDArray[np.float64]  # (n, 3)
Faces: TypeAlias = npt.NDArray[np.int64]  # (n, 3), counter-clockwise seen from outside

_BOX_SPACING = 0.022  # metres between the points of a box


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One mesh of one material."""

    name: str
    points: Points
    faces: Faces
    colour: Colour
    metallic: float
    roughness: float


def shape_names() -> tuple[str, ...]:
    """Return the shapes there are."""
    return tuple(_BUILDERS)


def build_shape(name: str, look: Look) -> list[Part]:
    """Return the parts of a shape in the colours of a look.

    Raises:
        ValueError: No such shape; the message lists those there are.
    """
    builder = _BUILDERS.get(name)
    if builder is None:
        raise ValueError(f"assetShape must be one of {', '.join(_BUILDERS)}, got {name!r}")
    return builder(look)


def _trophy(look: Look) -> list[Part]:
    """A cup on a stem with two handles, on a plinth."""
    outside = [(0.0, 0.26), (0.07, 0.27), (0.05, 0.34), (0.045, 0.42), (0.10, 0.47), (0.22, 0.60), (0.27, 0.78)]
    rim_and_inside = [(0.29, 0.97), (0.31, 1.0), (0.285, 0.985), (0.255, 0.80), (0.20, 0.64), (0.08, 0.53), (0.0, 0.51)]
    plinth = [(0.0, 0.0), (0.22, 0.0), (0.23, 0.02), (0.20, 0.08), (0.15, 0.10), (0.14, 0.22), (0.12, 0.26)]
    parts = [
        _part("cup", _revolve(_smooth([*outside, *rim_and_inside], steps=96), 112), look.accent, 1.0, 0.22),
        _part("plinth", _revolve(_dense([*plinth, (0.0, 0.26)], 40), 96), look.layers[2], 0.1, 0.55),
    ]
    for side in (-1.0, 1.0):
        turn = np.linspace(-0.62 * np.pi, 0.42 * np.pi, 60)
        path = np.stack([side * (0.24 + 0.17 * np.cos(turn)), 0.76 + 0.17 * np.sin(turn), np.zeros_like(turn)], axis=1)
        name = "handle_left" if side < 0 else "handle_right"
        parts.append(_part(name, _tube(path, 0.024, 20), look.accent, 1.0, 0.25))
    return parts


def _star(look: Look) -> list[Part]:
    """A cushioned five-pointed star on a round foot."""
    star = _cushion_star(rings=44, around=320)
    foot = [(0.0, 0.0), (0.22, 0.0), (0.235, 0.015), (0.22, 0.05), (0.06, 0.065), (0.04, 0.13), (0.035, 0.42)]
    return [
        _part("star", star, look.accent, 0.85, 0.25),
        _part("foot", _revolve(_dense([*foot, (0.0, 0.44)], 56), 72), look.layers[1], 0.2, 0.5),
    ]


def _gem(look: Look) -> list[Part]:
    """A brilliant-cut stone in a ring of metal."""
    outline = [(0.0, 0.08), (0.40, 0.62), (0.42, 0.655), (0.40, 0.69), (0.25, 0.86), (0.0, 0.86)]
    stone = _facet(_revolve(_dense(outline, 24), 144), sides=12)
    turn = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    ring = np.stack([0.24 * np.cos(turn), np.full_like(turn, 0.30), 0.24 * np.sin(turn)], axis=1)
    foot = [(0.0, 0.0), (0.26, 0.0), (0.26, 0.03), (0.10, 0.05), (0.09, 0.09), (0.0, 0.12)]
    return [
        _part("stone", stone, look.accent, 0.05, 0.06),
        _part("ring", _hoop(ring, 0.03, 20), blend(look.sun, look.accent, 0.3), 1.0, 0.3),
        _part("foot", _revolve(_dense(foot, 30), 96), look.layers[2], 0.4, 0.4),
    ]


def _gift(look: Look) -> list[Part]:
    """A box with a lid, crossed ribbons and a bow."""
    ribbon = look.accent
    parts = [
        _part("box", _round_box((0.70, 0.56, 0.70), 0.28, 0.03), look.layers[0], 0.0, 0.55),
        _part("lid", _round_box((0.78, 0.15, 0.78), 0.61, 0.03), look.sky_bottom, 0.0, 0.5),
    ]
    for name, wide, deep in (("x", 1.0, 0.0), ("z", 0.0, 1.0)):
        low = (0.13 + 0.59 * wide, 0.56, 0.13 + 0.59 * deep)
        high = (0.13 + 0.67 * wide, 0.17, 0.13 + 0.67 * deep)
        parts.append(_part(f"ribbon_box_{name}", _round_box(low, 0.275, 0.015), ribbon, 0.3, 0.35))
        parts.append(_part(f"ribbon_lid_{name}", _round_box(high, 0.61, 0.015), ribbon, 0.3, 0.35))
    turn = np.linspace(0, 2 * np.pi, 91)
    away = 1 - np.cos(turn)  # 0 at the knot, 2 at the tip of a loop
    for side, name in ((-1.0, "bow_left"), (1.0, "bow_right")):
        rise = 0.72 + 0.06 * away + 0.07 * np.sin(turn) * away
        loop = np.stack([side * 0.16 * away, rise, 0.05 * np.sin(turn)], axis=1)
        parts.append(_part(name, _tube(loop, 0.034, 18), ribbon, 0.3, 0.35))
    parts.append(_part("knot", _revolve(_dense(_ball(0.075, 0.74), 30), 48), ribbon, 0.3, 0.35))
    return parts


_BUILDERS: dict[str, Callable[[Look], list[Part]]] = {"trophy": _trophy, "star": _star, "gem": _gem, "gift": _gift}


def _part(name: str, mesh: tuple[Points, Faces], colour: Colour, metallic: float, roughness: float) -> Part:
    points, faces = mesh
    return Part(name=name, points=points, faces=faces, colour=colour, metallic=metallic, roughness=roughness)


def _ball(radius: float, height: float) -> list[tuple[float, float]]:
    turn = np.linspace(-np.pi / 2, np.pi / 2, 30)
    return [(float(radius * np.cos(angle)), float(height + radius * np.sin(angle))) for angle in turn]


def _dense(outline: Sequence[tuple[float, float]], steps: int) -> Points:
    """The same outline with about `steps` points on it, corners kept, evenly spaced between them."""
    corners = np.array(outline, dtype=np.float64)
    lengths = np.hypot(*np.diff(corners, axis=0).T)
    spacing = float(np.sum(lengths)) / steps
    pieces = [
        np.linspace(corners[index], corners[index + 1], max(1, round(length / spacing)), endpoint=False)
        for index, length in enumerate(lengths)
    ]
    return np.concatenate([*pieces, corners[-1:]])


def _smooth(outline: Sequence[tuple[float, float]], steps: int) -> Points:
    """The outline with its corners rounded (Chaikin), as `steps` evenly spaced points.

    Even spacing matters: the simplifier cannot collapse slivers.
    """
    points = np.array(outline, dtype=np.float64)
    for _ in range(3):
        near, far = points[:-1], points[1:]
        inner = np.stack([near * 0.75 + far * 0.25, near * 0.25 + far * 0.75], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], inner, points[-1:]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, along[-1], steps)
    return np.stack([np.interp(at, along, points[:, 0]), np.interp(at, along, points[:, 1])], axis=1)


def _revolve(outline: Points, around: int) -> tuple[Points, Faces]:
    """Turn an outline of (radius, height), from the bottom's axis to the top's, about the y axis."""
    turn = np.linspace(0, 2 * np.pi, around, endpoint=False)
    radius = np.maximum(outline[:, 0], 0.0)[:, None]
    x, z = radius * np.cos(turn), radius * np.sin(turn)
    y = np.repeat(outline[:, 1:2], around, axis=1)
    return np.stack([x, y, z], axis=2).reshape(-1, 3), _lattice(len(outline), around)


def _lattice(rows: int, around: int) -> Faces:
    """Two triangles for each cell between rows of points that close in a ring."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(around), indexing="ij")
    here = (row * around + column).ravel()
    beside = (row * around + (column + 1) % around).ravel()
    first = np.stack([here, here + around, beside], axis=1)
    second = np.stack([beside, here + around, beside + around], axis=1)
    return np.concatenate([first, second]).astype(np.int64)


def _tube(path: Points, radius: float, around: int) -> tuple[Points, Faces]:
    """A round rod along an open path, its ends closed."""
    body = _rings(path, np.gradient(path, axis=0), radius, around)
    ends = np.concatenate([np.repeat(path[:1], around, axis=0), body, np.repeat(path[-1:], around, axis=0)])
    return ends, _lattice(len(path) + 2, around)


def _hoop(path: Points, radius: float, around: int) -> tuple[Points, Faces]:
    """A round rod along a path whose last point is followed by its first."""
    body = _rings(path, np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0), radius, around)
    return np.concatenate([body, body[:around]]), _lattice(len(path) + 1, around)


def _rings(path: Points, ahead: Points, radius: float, around: int) -> Points:
    """A ring of points about each point of a path, square to its direction."""
    ahead = ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
    # A side vector that the path never points along.
    reference = np.array([0.0, 0.0, 1.0]) if np.abs(ahead[:, 2]).max() < 0.9 else np.array([0.0, 1.0, 0.0])
    side = np.cross(ahead, reference)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, ahead)
    turn = np.linspace(0, 2 * np.pi, around, endpoint=False)
    ring = np.cos(turn)[None, :, None] * side[:, None, :] + np.sin(turn)[None, :, None] * up[:, None, :]
    placed: Points = (path[:, None, :] + radius * ring).reshape(-1, 3)
    return placed


def _cushion_star(rings: int, around: int) -> tuple[Points, Faces]:
    """A five-pointed star, thick in the middle and thin at its edge, standing upright."""
    turn = np.linspace(0, 2 * np.pi, around, endpoint=False)
    within = np.abs((turn / (2 * np.pi) * 5) % 1.0 - 0.5) * 2  # 1 at a point, 0 in a notch
    edge = 0.205 + (0.42 - 0.205) * within**1.25
    tilt = np.linspace(-np.pi / 2, np.pi / 2, rings)
    reach = np.cos(tilt)[:, None] ** 0.8 * edge[None, :]
    depth = np.sin(tilt)[:, None] * 0.13 * np.ones_like(turn)[None, :]
    x, y = reach * np.sin(turn), 0.62 + reach * np.cos(turn)
    return np.stack([x, y, depth], axis=2).reshape(-1, 3), _lattice(rings, around)


def _round_box(size: tuple[float, float, float], height: float, radius: float) -> tuple[Points, Faces]:
    """A box about the y axis with its middle at a height, its edges rounded by a radius."""
    half = np.array(size) / 2
    points, faces, count = [], [], 0
    for axis in range(3):
        across, along = (axis + 1) % 3, (axis + 2) % 3
        columns, rows = (max(6, round(size[side] / _BOX_SPACING)) for side in (across, along))
        for side in (-1.0, 1.0):
            u, v = np.meshgrid(np.linspace(-1, 1, columns + 1), np.linspace(-1, 1, rows + 1), indexing="ij")
            sheet = np.empty((u.size, 3))
            sheet[:, axis], sheet[:, across], sheet[:, along] = side, u.ravel(), v.ravel()
            points.append(sheet * half)
            faces.append(_sheet_faces(columns, rows)[:, :: int(side)] + count)
            count += len(sheet)
    cube = np.concatenate(points)
    core = np.clip(cube, -(half - radius), half - radius)
    out = cube - core
    rounded = core + radius * out / np.linalg.norm(out, axis=1, keepdims=True)
    return rounded + np.array([0.0, height, 0.0]), np.concatenate(faces)


def _sheet_faces(columns: int, rows: int) -> Faces:
    """Two triangles for each cell of an open sheet of points."""
    column, row = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
    here = (column * (rows + 1) + row).ravel()
    beside = here + rows + 1
    first, second = np.stack([here, beside, beside + 1], axis=1), np.stack([here, beside + 1, here + 1], axis=1)
    return np.concatenate([first, second]).astype(np.int64)


def _facet(mesh: tuple[Points, Faces], sides: int) -> tuple[Points, Faces]:
    """Press a round body into flat sides, as a cutter does."""
    points, faces = mesh
    angle = np.arctan2(points[:, 2], points[:, 0])
    wedge = 2 * np.pi / sides
    off = (angle + wedge / 2) % wedge - wedge / 2
    flat = np.cos(wedge / 2) / np.cos(off)
    return np.stack([points[:, 0] * flat, points[:, 1], points[:, 2] * flat], axis=1), faces
