"""The graphs of no-op steps that return about 1 KB of JSON. Other engines import this, too: it needs no package."""

from collections.abc import Mapping, Sequence
from typing import Final

Graph = Mapping[str, Sequence[str]]

_BEFORE_MANIFEST: Final[Graph] = {
    "plan": [],
    "generate_intro_image": ["plan"],
    "generate_bgm_track": ["plan"],
    "generate_sfx_pack": ["plan"],
    "generate_outcome_video_win": ["plan"],
    "generate_outcome_video_lose": ["plan"],
    "generate_3d_asset": ["plan"],
    "game_config_from_template": ["plan"],
    "segment_start_button": ["generate_intro_image"],
    "optimize_3d_asset": ["generate_3d_asset"],
    "mix_audio_for_game": ["generate_bgm_track", "generate_sfx_pack"],
    "generate_intro_video_loop": ["generate_intro_image", "segment_start_button"],
}
CAMPAIGN: Final[Graph] = {**_BEFORE_MANIFEST, "assemble_manifest": list(_BEFORE_MANIFEST)}
FAN: Final[Graph] = {
    "src": [],
    **{f"m{i}": ["src"] for i in range(1000)},
    "sink": [f"m{i}" for i in range(1000)],
}
CHAIN: Final[Graph] = {f"c{i}": [f"c{i - 1}"] if i else [] for i in range(200)}
ONE: Final[Graph] = {"only": []}

_PAD: Final = "x" * 940


def output(step_id: str) -> dict[str, object]:
    """What every step returns."""
    return {"step": step_id, "ok": True, "artifactUri": f"s3://bench/{step_id}", "pad": _PAD}


def levels(graph: Graph) -> list[list[str]]:
    """The steps by depth, for engines that have no graph of their own."""
    depth: dict[str, int] = {}
    for step, needs in graph.items():
        depth[step] = 1 + max((depth[need] for need in needs), default=-1)
    found: list[list[str]] = [[] for _ in range(1 + max(depth.values()))]
    for step, level in depth.items():
        found[level].append(step)
    return found
