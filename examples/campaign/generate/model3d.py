"""The 3D asset: builds a shape as GLB, and reduces a GLB to a budget of triangles."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import fast_simplification  # type: ignore[import-untyped]
import numpy as np
import trimesh
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from examples.campaign.generate.look import look_for
from examples.campaign.generate.shapes import Part, build_shape

MEDIA_TYPE = "model/gltf-binary"
TRIANGLES_MIN, TRIANGLES_MAX = 200, 20_000
_PART_TRIANGLES_MIN = 24  # fewer, and a part is not recognisable any more
_CAUTIOUS = 3  # aggressiveness of the simplifier: lower keeps more of the form
_OVERSHOOT = 1.02
_REDUCTION_STEPS_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A finished model file."""

    data: bytes
    triangles: int
    vertices: int
    parts: int


def build_model(shape: str, style: str) -> Model:
    """Return a detailed model of a shape (tens of thousands of triangles) in the colours of a style.

    Raises:
        ValueError: No such shape.
    """
    return _export([(part, _mesh_of(part)) for part in build_shape(shape, look_for(style))])


def reduce_model(data: bytes, triangles_target: int) -> Model:
    """Return a model file's content with about `triangles_target` triangles, shared among its parts by size.

    Raises:
        ValueError: The target lies outside 200 … 20,000, or the file holds no mesh.
    """
    if not TRIANGLES_MIN <= triangles_target <= TRIANGLES_MAX:
        raise ValueError(f"assetTriangles must be from {TRIANGLES_MIN} to {TRIANGLES_MAX}, got {triangles_target}")
    parts = read_parts(data)
    total = sum(len(part.faces) for part in parts)
    if not total:
        raise ValueError("the model holds no mesh")
    reduced = []
    for part in parts:
        share = max(_PART_TRIANGLES_MIN, int(triangles_target * len(part.faces) / total))
        reduced.append((part, _reduced(part, min(share, len(part.faces)))))
    return _export(reduced)


def read_parts(data: bytes) -> list[Part]:
    """Return the meshes of a GLB file that this module wrote, ordered by name."""
    scene = trimesh.load_scene(io.BytesIO(data), file_type="glb")
    parts = []
    for name in sorted(scene.geometry):
        mesh = scene.geometry[name]
        material = mesh.visual.material
        red, green, blue = (int(level) for level in material.baseColorFactor[:3])
        parts.append(
            Part(
                name=name,
                points=np.asarray(mesh.vertices, dtype=np.float64),
                faces=np.asarray(mesh.faces, dtype=np.int64),
                colour=(red, green, blue),
                metallic=round(float(material.metallicFactor), 4),
                roughness=round(float(material.roughnessFactor), 4),
            )
        )
    return parts


def _mesh_of(part: Part) -> trimesh.Trimesh:
    """A mesh without doubled points and without triangles that have collapsed to a line."""
    mesh = trimesh.Trimesh(part.points, part.faces, process=False)
    mesh.merge_vertices(digits_vertex=6)
    mesh.update_faces(mesh.nondegenerate_faces())
    mesh.remove_unreferenced_vertices()
    return mesh


def _reduced(part: Part, triangles: int) -> trimesh.Trimesh:
    """The part with about so many triangles.

    Halved step by step at a cautious setting of the library, which keeps flat sides flat but misses the target when
    asked for it at once.
    """
    whole = _mesh_of(part)
    points, faces = np.asarray(whole.vertices, dtype=np.float32), np.asarray(whole.faces, dtype=np.int32)
    for _ in range(_REDUCTION_STEPS_MAX):
        if len(faces) <= triangles * _OVERSHOOT:
            break
        goal = max(triangles, len(faces) // 2)
        points, faces = fast_simplification.simplify(points, faces, target_count=goal, agg=_CAUTIOUS)
        points, faces = points.astype(np.float32), faces.astype(np.int32)
    mesh = trimesh.Trimesh(points, faces, process=False)
    mesh.update_faces(mesh.nondegenerate_faces())
    mesh.remove_unreferenced_vertices()
    return mesh


def _export(parts: Sequence[tuple[Part, trimesh.Trimesh]]) -> Model:
    scene = trimesh.Scene()
    for part, mesh in parts:
        material = PBRMaterial(  # type: ignore[no-untyped-call]
            name=part.name,
            baseColorFactor=(*part.colour, 255),
            metallicFactor=part.metallic,
            roughnessFactor=part.roughness,
        )
        mesh.visual = TextureVisuals(material=material)  # type: ignore[no-untyped-call]
        scene.add_geometry(mesh, geom_name=part.name, node_name=part.name)
    data = trimesh.exchange.gltf.export_glb(scene, include_normals=True)  # type: ignore[no-untyped-call]
    return Model(
        data=bytes(data),
        triangles=sum(len(mesh.faces) for _, mesh in parts),
        vertices=sum(len(mesh.vertices) for _, mesh in parts),
        parts=len(parts),
    )
