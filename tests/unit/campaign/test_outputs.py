"""Every file of a campaign opens in a library other than the one that wrote it, and is what it claims to be."""

import hashlib
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import png
import pygltflib
import pymediainfo
import pytest
import soundfile


def _png(data: bytes) -> tuple[int, int, np.ndarray[Any, Any]]:
    width, height, rows, info = png.Reader(bytes=data).asDirect()
    return width, height, np.vstack([np.array(row) for row in rows]).reshape(height, width, info["planes"])


def _streams(data: bytes) -> dict[str, Any]:
    info = pymediainfo.MediaInfo.parse(io.BytesIO(data))
    return {track.track_type: track for track in info.tracks}


def _loudness_lufs(data: bytes) -> float:
    """Measured by FFmpeg's EBU R128 filter, an implementation independent of the mixer's."""
    with av.open(io.BytesIO(data)) as container:
        graph = av.filter.Graph()
        source = graph.add_abuffer(template=container.streams.audio[0])
        meter = graph.add("ebur128", "metadata=1")
        sink = graph.add("abuffersink")
        source.link_to(meter)
        meter.link_to(sink)
        graph.configure()
        for frame in container.decode(audio=0):
            graph.push(frame)
        graph.push(None)
        last = 0.0
        while True:
            try:
                last = float(graph.pull().metadata.get("lavfi.r128.I", last))
            except (EOFError, av.error.EOFError, av.error.BlockingIOError):
                return last


def test_intro_image_is_a_full_size_picture(base: Any) -> None:
    """The PNG is 960 × 540 RGB with a rich picture in it."""
    width, height, pixels = _png(base.file("generate_intro_image"))
    assert (width, height, pixels.shape[2]) == (960, 540, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 2000


@pytest.mark.parametrize("index", [0, 1])
def test_start_button_is_cut_out(base: Any, index: int) -> None:
    """Both states have transparent corners, an opaque middle and the reported size."""
    width, height, pixels = _png(base.file("segment_start_button", index))
    output = base.outputs["segment_start_button"]
    assert (width, height, pixels.shape[2]) == (output["width"], output["height"], 4)
    alpha = pixels[:, :, 3]
    assert alpha[0, 0] == alpha[0, -1] == alpha[-1, 0] == alpha[-1, -1] == 0
    assert alpha[height // 2, width // 2] == 255
    assert np.any((alpha > 0) & (alpha < 255)), "the edge is smooth"


def test_start_button_is_the_part_of_the_intro_image(base: Any) -> None:
    """The opaque pixels of the cut-out are the intro image's, at the reported place."""
    _, _, picture = _png(base.file("generate_intro_image"))
    _, _, button = _png(base.file("segment_start_button"))
    box = base.outputs["generate_intro_image"]["button"]
    part = picture[box["top"] : box["top"] + box["height"], box["left"] : box["left"] + box["width"]]
    opaque = button[:, :, 3] == 255
    assert np.array_equal(part[opaque], button[:, :, :3][opaque])


@pytest.mark.parametrize(
    ("step", "seconds", "title"),
    [
        ("generate_intro_video_loop", 3.0, "Summer Sale Campaign"),
        ("generate_outcome_video_win", 2.5, "You win!"),
        ("generate_outcome_video_lose", 2.5, "Try again"),
    ],
)
def test_films_are_playable_mp4(base: Any, step: str, seconds: float, title: str) -> None:
    """MediaInfo finds H.264 in MP4 of the right size, rate, length and title, and no creation date."""
    data = base.file(step)
    tracks = _streams(data)
    general, video = tracks["General"], tracks["Video"]
    assert (general.format, video.format, video.chroma_subsampling) == ("MPEG-4", "AVC", "4:2:0")
    assert (video.width, video.height, float(video.frame_rate)) == (640, 360, 24.0)
    assert float(video.duration) == pytest.approx(seconds * 1000, abs=1)
    assert (general.title or general.movie_name) == title
    assert general.encoded_date is None
    assert data.index(b"moov") < data.index(b"mdat"), "the index comes first, so that playing starts at once"


def test_intro_film_loops(base: Any) -> None:
    """The film's last frame leads into its first: they differ less than the film moves within."""
    with av.open(io.BytesIO(base.file("generate_intro_video_loop"))) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    seam = np.abs(frames[-1] - frames[0]).mean()
    assert seam < np.abs(frames[len(frames) // 2] - frames[0]).mean() / 2


@pytest.mark.parametrize("step", ["generate_outcome_video_win", "generate_outcome_video_lose"])
def test_outcome_films_move(base: Any, step: str) -> None:
    """Start, middle and end of an outcome film are different pictures."""
    with av.open(io.BytesIO(base.file(step))) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    assert len(frames) == 60
    assert np.abs(frames[0] - frames[30]).mean() > 4
    assert np.abs(frames[30] - frames[59]).mean() > 1


def test_music_is_a_seamless_loop(base: Any) -> None:
    """libsndfile reads 16-bit stereo of 8 to 12 s, and the step from end to start is no larger than within."""
    samples, rate = soundfile.read(io.BytesIO(base.file("generate_bgm_track")))
    assert (rate, samples.shape[1]) == (44_100, 2)
    assert 8 <= len(samples) / rate <= 12
    assert np.max(np.abs(samples[0] - samples[-1])) <= np.max(np.abs(np.diff(samples, axis=0)))
    assert 0.5 < np.max(np.abs(samples)) < 1


def test_effects_are_short_distinct_and_end_in_silence(base: Any) -> None:
    """The pack has the five effects, each under 2.5 s, all different, each faded out."""
    pack = base.artifacts["generate_sfx_pack"]
    assert [item["metadata"]["effect"] for item in pack] == ["click", "score", "tick", "win", "lose"]
    assert len({item["contentHash"] for item in pack}) == 5
    for index in range(5):
        samples, rate = soundfile.read(io.BytesIO(base.file("generate_sfx_pack", index)))
        assert len(samples) / rate < 2.5
        assert np.max(np.abs(samples)) == pytest.approx(0.8, abs=0.01)
        assert np.max(np.abs(samples[-20:])) < 0.01


@pytest.mark.parametrize("boost", [0.5, 1.0, 1.2, 2.0])
def test_mix_meets_its_loudness(campaign: Any, base: Any, boost: float) -> None:
    """FFmpeg measures −16 LUFS plus 20·log10(boost), and no sample beyond −1 dB."""
    mixed = campaign.update(base, {"volumeBoost": boost})
    data = mixed.file("mix_audio_for_game")
    assert _loudness_lufs(data) == pytest.approx(-16 + 20 * np.log10(boost), abs=0.3)
    samples, _ = soundfile.read(io.BytesIO(data))
    assert 20 * np.log10(np.max(np.abs(samples))) <= -1
    assert mixed.outputs["mix_audio_for_game"]["truePeakDbtp"] <= -1


def test_epic_update_is_louder_and_sounds_different(base: Any, updated: Callable[[str], Any]) -> None:
    """The sample audio update gives other music, other effects and a mix louder by 1.6 dB."""
    after = updated("audio.update")
    assert after.outputs["generate_bgm_track"]["tempoBpm"] != base.outputs["generate_bgm_track"]["tempoBpm"]
    gain = _loudness_lufs(after.file("mix_audio_for_game")) - _loudness_lufs(base.file("mix_audio_for_game"))
    assert gain == pytest.approx(20 * np.log10(1.2), abs=0.3)


def _model(data: bytes) -> tuple[pygltflib.GLTF2, int]:
    model = pygltflib.GLTF2.load_from_bytes(data)
    primitives = [primitive for mesh in model.meshes for primitive in mesh.primitives]
    return model, sum(model.accessors[primitive.indices].count // 3 for primitive in primitives)


def test_models_are_valid_glb(base: Any) -> None:
    """pygltflib reads both: right header, normals, coloured materials, indices within the vertices."""
    for step in ("generate_3d_asset", "optimize_3d_asset"):
        data = base.file(step)
        assert struct.unpack("<4sII", data[:12]) == (b"glTF", 2, len(data))
        model, triangles = _model(data)
        assert triangles == base.outputs[step]["triangles"]
        assert len({tuple(item.pbrMetallicRoughness.baseColorFactor) for item in model.materials}) >= 2
        blob = model.binary_blob()
        assert blob is not None
        for mesh in model.meshes:
            primitive = mesh.primitives[0]
            positions = model.accessors[primitive.attributes.POSITION]
            assert model.accessors[primitive.attributes.NORMAL].count == positions.count
            indices = model.accessors[primitive.indices]
            view = model.bufferViews[indices.bufferView]
            start = (view.byteOffset or 0) + (indices.byteOffset or 0)
            assert indices.componentType == pygltflib.UNSIGNED_INT
            assert np.frombuffer(blob, "<u4", indices.count, start).max() < positions.count


def test_optimised_model_keeps_form_and_budget(base: Any) -> None:
    """The optimised model has about 2,000 triangles, a tenth of the original, in the same bounds."""
    detailed, many = _model(base.file("generate_3d_asset"))
    light, few = _model(base.file("optimize_3d_asset"))
    assert many > 15_000
    assert 1_800 <= few <= 2_100
    before, after = _bounds(detailed), _bounds(light)
    assert before.keys() == after.keys()
    for name, corners in before.items():
        assert np.allclose(corners, after[name], atol=0.02), name


def _bounds(model: pygltflib.GLTF2) -> dict[str, list[float]]:
    accessors = {mesh.name: model.accessors[mesh.primitives[0].attributes.POSITION] for mesh in model.meshes}
    return {name: [*accessor.min, *accessor.max] for name, accessor in accessors.items()}


def test_plan_and_game_config_are_json_of_the_campaign(base: Any) -> None:
    """Both files parse, equal their step's output and speak of the brief; no slot of the template is left."""
    plan, config = (json.loads(base.file(step)) for step in ("campaign_plan_from_brief", "game_config_from_template"))
    assert plan == base.outputs["campaign_plan_from_brief"]
    assert config == base.outputs["game_config_from_template"]
    assert (plan["title"], plan["style"], plan["slug"]) == (
        "Summer Sale Campaign",
        "energetic",
        "summer-sale-campaign",
    )
    assert config["campaign"]["title"] == plan["title"]
    assert b"{{" not in base.file("game_config_from_template")


def test_harder_game_has_more_targets(base: Any, updated: Callable[[str], Any]) -> None:
    """The sample change makes the game harder: fewer lives, a shorter window, the round it asks for."""
    before, after = (build.outputs["game_config_from_template"] for build in (base, updated("game_config.update")))
    assert after["session"] == {**before["session"], "difficulty": "hard", "lives": 2, "roundSeconds": 30}
    assert after["levels"][0]["hitWindowMilliseconds"] < before["levels"][0]["hitWindowMilliseconds"]


def test_manifest_names_every_file_by_its_hash(base: Any) -> None:
    """Each artifact of the other twelve steps is in the manifest once, with the hash and size of its bytes."""
    manifest = json.loads(base.file("assemble_campaign_manifest"))
    listed = {entry["filename"]: entry for entries in manifest["files"].values() for entry in entries}
    made = [
        (artifact, base.file(step, index))
        for step, artifacts in base.artifacts.items()
        if step != "assemble_campaign_manifest"
        for index, artifact in enumerate(artifacts)
    ]
    assert len(made) == len(listed) == manifest["totals"]["files"] == 18
    for artifact, data in made:
        entry = listed[artifact["filename"]]
        assert entry["contentHash"] == hashlib.sha256(data).hexdigest()
        assert (entry["sizeBytes"], entry["type"]) == (len(data), artifact["type"])
    assert manifest["campaignId"] == "123e4567-e89b-12d3-a456-426614174000"


def test_artifacts_name_what_they_were_made_from(base: Any) -> None:
    """The mix descends from music and effects, the loop from picture and button, the light model from the full one."""

    def hashes(*steps: str) -> list[str]:
        return [artifact["contentHash"] for step in steps for artifact in base.artifacts[step]]

    assert list(base.made_from["mix_audio_for_game"][0]) == hashes("generate_bgm_track", "generate_sfx_pack")
    assert list(base.made_from["optimize_3d_asset"][0]) == hashes("generate_3d_asset")
    picture_and_button = [*hashes("generate_intro_image"), hashes("segment_start_button")[0]]
    assert list(base.made_from["generate_intro_video_loop"][0]) == picture_and_button
