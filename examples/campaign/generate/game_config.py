"""The game's configuration: a JSON template filled from the plan and the chosen difficulty."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from examples.campaign.generate.json_values import InputError, JsonObject, JsonValue, mapping, number, text

ROUND_SECONDS_MIN, ROUND_SECONDS_MAX = 10, 600
LEVELS = 5
_TEMPLATE = Path(__file__).parent.parent / "templates" / "game_config.json"
_SLOT = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty:
    """How hard a game is at its first level, and how quickly it gets harder."""

    lives: int
    targets_per_minute: int
    growth: float  # factor from one level to the next
    hit_window_ms: int
    combo_multiplier_max: float


DIFFICULTIES = {
    "easy": Difficulty(lives=5, targets_per_minute=24, growth=1.12, hit_window_ms=420, combo_multiplier_max=2.0),
    "normal": Difficulty(lives=3, targets_per_minute=36, growth=1.20, hit_window_ms=300, combo_multiplier_max=3.0),
    "hard": Difficulty(lives=2, targets_per_minute=52, growth=1.28, hit_window_ms=210, combo_multiplier_max=4.0),
}


def configure_game(plan: JsonObject, difficulty: str, round_seconds: int) -> JsonObject:
    """Return the filled template.

    Raises:
        InputError: Unknown difficulty, or a round shorter than 10 s or longer than 600 s.
    """
    rules = DIFFICULTIES.get(difficulty)
    if rules is None:
        raise InputError(f"difficulty: expected one of {', '.join(DIFFICULTIES)}, got {difficulty!r}")
    if not ROUND_SECONDS_MIN <= round_seconds <= ROUND_SECONDS_MAX:
        raise InputError(f"roundSeconds: expected {ROUND_SECONDS_MIN} to {ROUND_SECONDS_MAX}, got {round_seconds}")
    tempo = number(mapping(plan, "music"), "tempoBpm", low=20, high=300)
    levels = _levels(rules, round_seconds)
    values: JsonObject = {
        "title": text(plan, "title"),
        "slug": text(plan, "slug"),
        "style": text(plan, "style"),
        "seed": int(number(plan, "seed", low=0, high=2**31)),
        "difficulty": difficulty,
        "roundSeconds": round_seconds,
        "lives": rules.lives,
        "levels": [dict(level) for level in levels],
        "comboMultiplierMax": rules.combo_multiplier_max,
        "targetScore": sum(level["targets"] for level in levels) * 60,
        "beatMilliseconds": round(60_000 / tempo),
        **mapping(plan, "look"),
        **mapping(plan, "copy"),
    }
    filled = _fill(json.loads(_TEMPLATE.read_text(encoding="utf-8")), values)
    if not isinstance(filled, dict):
        raise InputError("the template is no JSON object")
    return filled


def _levels(rules: Difficulty, round_seconds: int) -> list[dict[str, int]]:
    """Each level has more targets and less time to hit one."""
    return [
        {
            "level": index + 1,
            "targets": round(rules.targets_per_minute * rules.growth**index * round_seconds / 60),
            "hitWindowMilliseconds": round(rules.hit_window_ms * 0.94**index),
        }
        for index in range(LEVELS)
    ]


def _fill(template: JsonValue, values: Mapping[str, JsonValue]) -> JsonValue:
    """The template with each `{{name}}` replaced by the value of that name, in the value's own type."""
    if isinstance(template, dict):
        return {key: _fill(item, values) for key, item in template.items()}
    if isinstance(template, list):
        return [_fill(item, values) for item in template]
    if not isinstance(template, str):
        return template
    slot = _SLOT.fullmatch(template)
    if slot is None:
        return template
    if slot.group(1) not in values:
        raise InputError(f"the template asks for {slot.group(1)!r}, which nothing provides")
    return values[slot.group(1)]
