"""What each of the campaign's skills takes and gives, as JSON Schemas; the engine holds both to them."""

from __future__ import annotations

from examples.campaign.generate.game_config import ROUND_SECONDS_MAX, ROUND_SECONDS_MIN
from examples.campaign.generate.json_values import JsonObject, JsonValue
from examples.campaign.generate.mixing import BOOST_MAX, BOOST_MIN
from examples.campaign.generate.model3d import TRIANGLES_MAX, TRIANGLES_MIN


def _having(**members: JsonValue) -> JsonObject:
    """An object that has these members, and may have more."""
    return {"type": "object", "required": list(members), "properties": members}


def _some(item: JsonValue) -> JsonObject:
    """A list of at least one such item."""
    return {"type": "array", "items": item, "minItems": 1}


_TEXT: JsonObject = {"type": "string", "pattern": "\\S"}
_OBJECT: JsonObject = {"type": "object"}
_COUNT: JsonObject = {"type": "integer", "minimum": 0}
_SECONDS: JsonObject = {"type": "number", "exclusiveMinimum": 0}
_BOX = _having(left=_COUNT, top=_COUNT, width=_COUNT, height=_COUNT)
_ARTIFACT = _having(uri=_TEXT, contentHash={"type": "string", "pattern": "^[0-9a-f]{64}$"}, filename=_TEXT)

_PLAN = _having(
    title=_TEXT,
    style=_TEXT,
    slug=_TEXT,
    seed=_COUNT,
    copy=_having(headline=_TEXT, tagline=_TEXT, callToAction=_TEXT, win=_TEXT, lose=_TEXT),
    look=_OBJECT,
    music=_having(tempoBpm={"type": "number"}),
    game=_having(difficulty=_TEXT, roundSeconds=_COUNT),
    asset=_having(shape=_TEXT),
)
_FILM = _having(title=_TEXT, width=_COUNT, height=_COUNT, framesPerSecond={"type": "number"}, durationSeconds=_SECONDS)
_MODEL = _having(triangles=_COUNT, vertices=_COUNT, parts=_COUNT)
_OUTCOME = _having(plan=_PLAN, text=_TEXT, style=_TEXT)

INPUTS: dict[str, JsonObject] = {
    "planning.generate_campaign_plan": _having(brief=_having(title=_TEXT, style=_TEXT)),
    "image.generate_intro": _having(plan=_PLAN, headline=_TEXT, style=_TEXT, buttonLabel=_TEXT),
    "image.segment_start_button": _having(image=_ARTIFACT, buttonBox=_BOX, style=_TEXT, buttonLabel=_TEXT),
    "video.generate_intro_loop": _having(
        image=_ARTIFACT, button=_ARTIFACT, buttonBox=_BOX, headline=_TEXT, style=_TEXT
    ),
    "audio.generate_bgm": _having(plan=_PLAN, style=_TEXT),
    "audio.generate_sfx_pack": _having(style=_TEXT),
    "audio.mix_for_game": _having(
        music=_ARTIFACT,
        effects=_some(_ARTIFACT),
        volumeBoost={"type": "number", "minimum": BOOST_MIN, "maximum": BOOST_MAX},
    ),
    "video.generate_outcome_win": _OUTCOME,
    "video.generate_outcome_lose": _OUTCOME,
    "game.config_from_template": _having(
        plan=_PLAN,
        difficulty={"enum": ["easy", "normal", "hard"]},
        roundSeconds={"type": "number", "minimum": ROUND_SECONDS_MIN, "maximum": ROUND_SECONDS_MAX},
    ),
    "asset3d.generate": _having(plan=_PLAN, shape={"enum": ["trophy", "star", "gem", "gift"]}),
    "asset3d.optimize": _having(
        plan=_PLAN, model=_ARTIFACT, triangles={"type": "number", "minimum": TRIANGLES_MIN, "maximum": TRIANGLES_MAX}
    ),
    "campaign.assemble_manifest": _having(
        plan=_PLAN, files={"type": "object", "minProperties": 1, "additionalProperties": _some(_ARTIFACT)}
    ),
}

OUTPUTS: dict[str, JsonObject] = {
    "planning.generate_campaign_plan": _PLAN,
    "image.generate_intro": _having(width=_COUNT, height=_COUNT, button=_BOX),
    "image.segment_start_button": _having(label=_TEXT, width=_COUNT, height=_COUNT),
    "video.generate_intro_loop": _FILM,
    "audio.generate_bgm": _having(style=_TEXT, durationSeconds=_SECONDS),
    "audio.generate_sfx_pack": _having(style=_TEXT, durationSeconds=_OBJECT),
    "audio.mix_for_game": _having(
        durationSeconds=_SECONDS, loudnessLufs={"type": "number"}, cues=_some(_having(effect=_TEXT))
    ),
    "video.generate_outcome_win": _FILM,
    "video.generate_outcome_lose": _FILM,
    "game.config_from_template": _OBJECT,
    "asset3d.generate": _MODEL,
    "asset3d.optimize": _having(triangleBudget=_COUNT, triangles=_COUNT, bytesBefore=_COUNT, bytesAfter=_COUNT),
    "campaign.assemble_manifest": _having(title=_TEXT, slug=_TEXT, files=_OBJECT),
}
