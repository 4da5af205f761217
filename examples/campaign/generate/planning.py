"""Turns a brief into the campaign plan that the other steps read."""

from __future__ import annotations

import re

from examples.campaign.generate.colour import to_hex
from examples.campaign.generate.json_values import JsonObject, JsonValue, mapping, seed_from, text
from examples.campaign.generate.look import look_for
from examples.campaign.generate.score import score_for

TITLE_LENGTH_MAX = 80  # longer titles cannot be set legibly on the intro image

_SHAPE_BY_WORD = (
    (re.compile(r"sale|gift|deal|holiday|birthday|box", re.IGNORECASE), "gift"),
    (re.compile(r"cup|league|champion|final|quest|battle", re.IGNORECASE), "trophy"),
    (re.compile(r"gem|jewel|luxury|diamond|crystal", re.IGNORECASE), "gem"),
)


def plan_from_brief(brief: JsonObject) -> JsonObject:
    """Return the plan: words, palette, music and game settings, all derived from title and style.

    Raises:
        InputError: The brief lacks a title or a style.
    """
    title = text(brief, "title")[:TITLE_LENGTH_MAX]
    style = text(brief, "style").lower()
    look = look_for(style)
    score = score_for(style)
    layers: list[JsonValue] = [to_hex(layer) for layer in look.layers]
    return {
        "title": title,
        "style": style,
        "slug": _slug(title),
        "seed": seed_from("plan", title, style) % 2**31,
        "copy": {
            "headline": title,
            "tagline": look.tagline,
            "callToAction": "Play now",
            "win": "You win!",
            "lose": "Try again",
        },
        "look": {
            "motif": look.motif.value,
            "skyTop": to_hex(look.sky_top),
            "skyBottom": to_hex(look.sky_bottom),
            "sun": to_hex(look.sun),
            "layers": layers,
            "accent": to_hex(look.accent),
            "ink": to_hex(look.ink),
        },
        "music": {"tempoBpm": score.tempo_bpm, "key": score.key_name, "bars": score.bars},
        "game": {"difficulty": "normal", "roundSeconds": 45 if score.tempo_bpm >= 110 else 60},
        "asset": {"shape": _shape(title)},
        "deliverables": [
            {"role": "intro", "kind": "image and video loop", "seconds": 3},
            {"role": "audio", "kind": "music, effects and mix", "seconds": round(score.duration_s, 2)},
            {"role": "outcome", "kind": "win and lose video", "seconds": 2.5},
            {"role": "game", "kind": "configuration"},
            {"role": "model", "kind": "3D asset, full and optimised"},
        ],
    }


def words_of(plan: JsonObject, key: str) -> str:
    """Return one of the plan's texts: headline, tagline, callToAction, win or lose."""
    return text(mapping(plan, "copy"), key)


def _slug(title: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return slug or f"campaign-{seed_from(title) % 10**6}"


def _shape(title: str) -> str:
    for pattern, shape in _SHAPE_BY_WORD:
        if pattern.search(title):
            return shape
    return "star"
