"""The campaign's thirteen skills: each reads its input, calls a generator and publishes what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps

from examples.campaign.generate import canvas, film, model3d, wav
from examples.campaign.generate.effects import EFFECT_NAMES, play_effects
from examples.campaign.generate.game_config import ROUND_SECONDS_MAX, ROUND_SECONDS_MIN, configure_game
from examples.campaign.generate.intro_film import film_intro
from examples.campaign.generate.intro_image import HEIGHT, WIDTH, Box, draw_intro
from examples.campaign.generate.json_values import (
    InputError,
    JsonObject,
    JsonValue,
    document,
    mapping,
    mappings,
    number,
    text,
)
from examples.campaign.generate.look import look_for
from examples.campaign.generate.manifest import assemble
from examples.campaign.generate.mixing import BOOST_MAX, BOOST_MIN, LOUDNESS_LUFS, TRUE_PEAK_DBTP_MAX, mix
from examples.campaign.generate.model_preview import SIZE, draw_preview
from examples.campaign.generate.music import compose
from examples.campaign.generate.outcome_film import Outcome, film_outcome
from examples.campaign.generate.planning import plan_from_brief, words_of
from examples.campaign.generate.score import score_for
from examples.campaign.generate.start_button import cut_out
from examples.campaign.schemas import INPUTS, OUTPUTS
from runengine_client.skills import Skill, SkillContext, SkillError, skill

_SkillBody = Callable[[JsonObject, SkillContext], JsonObject]
_JSON = "application/json"
_PNG = "image/png"
_WAV = "audio/wav"


def _skill(skill_id: str, *, default_timeout_s: float) -> Callable[[_SkillBody], Skill]:
    """The skill with its schemas; a generator's ValueError becomes a failure that no retry can mend."""

    def decorate(body: _SkillBody) -> Skill:
        @wraps(body)
        def checked(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002 - the contract's own word
            try:
                return body(input, context)
            except ValueError as error:
                raise SkillError("INPUT_INVALID", str(error)) from error

        return skill(
            skill_id,
            default_timeout_s=default_timeout_s,
            input_schema=INPUTS[skill_id],
            output_schema=OUTPUTS[skill_id],
        )(checked)

    return decorate


@_skill("planning.generate_campaign_plan", default_timeout_s=30)
def generate_campaign_plan(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Writes the campaign plan: words, palette, music and game settings from a title and a style."""
    plan = plan_from_brief(mapping(input, "brief"))
    context.publish(document(plan), filename="campaign_plan.json", media_type=_JSON)
    return plan


@_skill("image.generate_intro", default_timeout_s=60)
def generate_intro(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Draws the intro image, with its start button at a known place."""
    plan = mapping(input, "plan")
    label = text(input, "buttonLabel")
    headline, style = text(input, "headline"), text(input, "style")
    intro = draw_intro(style, headline, words_of(plan, "tagline"), label)
    size: dict[str, JsonValue] = {"width": WIDTH, "height": HEIGHT}
    context.publish(canvas.encode_png(intro.image), filename="intro.png", media_type=_PNG, metadata=size)
    box = intro.button
    button: JsonObject = {"left": box.left, "top": box.top, "width": box.width, "height": box.height}
    return {**size, "headline": headline, "style": style, "buttonLabel": label, "button": button}


@_skill("image.segment_start_button", default_timeout_s=60)
def segment_start_button(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Cuts the start button out of the intro image, with transparent surroundings, and adds its pressed state."""
    source = mapping(input, "image")
    button = cut_out(canvas.decode_image(context.read(source)), _box(input), text(input, "style"))
    label = text(input, "buttonLabel")
    for name, image in (("start_button", button.normal), ("start_button_pressed", button.pressed)):
        context.publish(
            canvas.encode_png(image),
            filename=f"{name}.png",
            media_type=_PNG,
            metadata={"width": image.width, "height": image.height, "alternativeText": label},
            made_from=[source],
        )
    return {"label": label, "width": button.normal.width, "height": button.normal.height, "coverage": button.coverage}


@_skill("video.generate_intro_loop", default_timeout_s=120)
def generate_intro_loop(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Films the intro image as a seamless loop with drifting lights and a pulsing button."""
    image, button = mapping(input, "image"), mapping(input, "button")
    title, style = text(input, "headline"), text(input, "style")
    made = film_intro(
        canvas.decode_image(context.read(image)),
        canvas.decode_image(context.read(button)),
        _box(input),
        style,
        title,
        lambda share: context.report_progress(share, "filming"),
    )
    return _publish_film(context, made, "intro_loop.mp4", title, made_from=[image, button])


@_skill("audio.generate_bgm", default_timeout_s=60)
def generate_bgm(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Composes and plays the background music as a seamless loop."""
    style = text(input, "style")
    music = compose(style, text(mapping(input, "plan"), "title"))
    score = score_for(style)
    facts: JsonObject = {
        "style": style,
        "tempoBpm": score.tempo_bpm,
        "key": score.key_name,
        "durationSeconds": wav.duration_s(music),
    }
    context.publish(wav.encode_wav(music), filename="bgm.wav", media_type=_WAV, metadata=facts)
    return facts


@_skill("audio.generate_sfx_pack", default_timeout_s=60)
def generate_sfx_pack(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Plays the game's five sound effects in the timbre and key of a style."""
    style = text(input, "style")
    effects: JsonObject = {}
    for name, sound in play_effects(style).items():
        facts: JsonObject = {"effect": name, "style": style, "durationSeconds": wav.duration_s(sound)}
        context.publish(wav.encode_wav(sound), filename=f"sfx_{name}.wav", media_type=_WAV, metadata=facts)
        effects[name] = wav.duration_s(sound)
    return {"style": style, "durationSeconds": effects}


@_skill("audio.mix_for_game", default_timeout_s=60)
def mix_for_game(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Mixes music and effects to −16 LUFS plus the boost, with true peaks below −1 dBTP."""
    music, pack = mapping(input, "music"), mappings(input, "effects")
    boost = number(input, "volumeBoost", low=BOOST_MIN, high=BOOST_MAX)
    effects = {_effect_name(item): wav.decode_wav(context.read(item)) for item in pack}
    mixed = mix(wav.decode_wav(context.read(music)), effects, boost)
    facts: JsonObject = {
        "durationSeconds": wav.duration_s(mixed.stereo),
        "volumeBoost": boost,
        "loudnessTargetLufs": mixed.target_lufs,
        "loudnessLufs": mixed.loudness_lufs,
        "loudnessReferenceLufs": LOUDNESS_LUFS,
        "truePeakDbtp": mixed.true_peak_dbtp,
        "truePeakLimitDbtp": TRUE_PEAK_DBTP_MAX,
    }
    made_from = [music, *pack]
    context.publish(
        wav.encode_wav(mixed.stereo), filename="game_mix.wav", media_type=_WAV, metadata=facts, made_from=made_from
    )
    cues: list[JsonValue] = [{"startSeconds": start_s, "effect": name} for start_s, name in mixed.cues]
    return {**facts, "cues": cues}


@_skill("video.generate_outcome_win", default_timeout_s=120)
def generate_outcome_win(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Films the winner's screen: rays, a shock wave and confetti."""
    return _film_outcome(Outcome.WIN, input, context)


@_skill("video.generate_outcome_lose", default_timeout_s=120)
def generate_outcome_lose(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Films the loser's screen: words that fall in a grey rain."""
    return _film_outcome(Outcome.LOSE, input, context)


@_skill("game.config_from_template", default_timeout_s=30)
def config_from_template(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Fills the game's configuration template from the plan and the difficulty."""
    seconds = number(input, "roundSeconds", low=ROUND_SECONDS_MIN, high=ROUND_SECONDS_MAX)
    config = configure_game(mapping(input, "plan"), text(input, "difficulty"), round(seconds))
    context.publish(document(config), filename="game_config.json", media_type=_JSON)
    return config


@_skill("asset3d.generate", default_timeout_s=60)
def generate_asset(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Models the 3D asset in full detail."""
    shape, style = text(input, "shape"), text(mapping(input, "plan"), "style")
    model = model3d.build_model(shape, style)
    facts = {"shape": shape, **_model_facts(model)}
    context.publish(model.data, filename=f"{shape}.glb", media_type=model3d.MEDIA_TYPE, metadata=facts)
    return facts


@_skill("asset3d.optimize", default_timeout_s=60)
def optimize_asset(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Reduces the 3D asset to a budget of triangles and draws a preview of the result."""
    source = mapping(input, "model")
    budget = number(input, "triangles", low=model3d.TRIANGLES_MIN, high=model3d.TRIANGLES_MAX)
    detailed = context.read(source)
    model = model3d.reduce_model(detailed, round(budget))
    facts: JsonObject = {"triangleBudget": round(budget), **_model_facts(model)}
    published = context.publish(
        model.data,
        filename=f"optimized_{text(source, 'filename')}",
        media_type=model3d.MEDIA_TYPE,
        metadata=facts,
        made_from=[source],
    )
    preview = draw_preview(model3d.read_parts(model.data), look_for(text(mapping(input, "plan"), "style")))
    context.publish(
        canvas.encode_png(preview),
        filename="asset_preview.png",
        media_type=_PNG,
        metadata={"width": SIZE, "height": SIZE},
        made_from=[published],
    )
    return {**facts, "bytesBefore": len(detailed), "bytesAfter": len(model.data)}


@_skill("campaign.assemble_manifest", default_timeout_s=30)
def assemble_manifest(input: JsonObject, context: SkillContext) -> JsonObject:  # noqa: A002
    """Writes the manifest: every file of the campaign with hash, size and type, after reading each of them."""
    files = mapping(input, "files")
    campaign_id = input.get("campaignId")
    manifest = assemble(campaign_id if isinstance(campaign_id, str) else "", mapping(input, "plan"), files)
    sources = [artifact for role in files for artifact in mappings(files, role)]
    for done, artifact in enumerate(sources):
        context.read(artifact)
        context.report_progress(done / len(sources), "checking files")
    context.publish(document(manifest), filename="campaign_manifest.json", media_type=_JSON, made_from=sources)
    return manifest


def _box(source: Mapping[str, JsonValue]) -> Box:
    """The button's place, as the intro image's skill reported it."""
    box = mapping(source, "buttonBox")
    left, top = round(number(box, "left", low=0, high=WIDTH)), round(number(box, "top", low=0, high=HEIGHT))
    wide, tall = round(number(box, "width", low=1, high=WIDTH)), round(number(box, "height", low=1, high=HEIGHT))
    return Box(left=left, top=top, width=wide, height=tall)


def _effect_name(artifact: JsonObject) -> str:
    name = text(mapping(artifact, "metadata"), "effect")
    if name not in EFFECT_NAMES:
        raise InputError(f"no effect named {name!r}")
    return name


def _film_outcome(outcome: Outcome, source: JsonObject, context: SkillContext) -> JsonObject:
    words, title = text(source, "text"), text(mapping(source, "plan"), "title")
    made = film_outcome(
        outcome, text(source, "style"), words, title, lambda share: context.report_progress(share, "filming")
    )
    return _publish_film(context, made, f"outcome_{outcome.value}.mp4", words, made_from=[])


def _publish_film(
    context: SkillContext, made: film.Film, filename: str, title: str, made_from: list[JsonObject]
) -> JsonObject:
    facts: JsonObject = {
        "title": title,
        "width": film.WIDTH,
        "height": film.HEIGHT,
        "framesPerSecond": film.FRAMES_PER_SECOND,
        "durationSeconds": made.duration_s,
    }
    context.publish(made.data, filename=filename, media_type=film.MEDIA_TYPE, metadata=facts, made_from=made_from)
    return facts


def _model_facts(model: model3d.Model) -> JsonObject:
    return {"triangles": model.triangles, "vertices": model.vertices, "parts": model.parts}


SKILLS: list[Skill] = [
    generate_campaign_plan,
    generate_intro,
    segment_start_button,
    generate_intro_loop,
    generate_bgm,
    generate_sfx_pack,
    mix_for_game,
    generate_outcome_win,
    generate_outcome_lose,
    config_from_template,
    generate_asset,
    optimize_asset,
    assemble_manifest,
]
