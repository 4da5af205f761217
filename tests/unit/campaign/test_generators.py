"""The generators: equal in every process, different for different parameters, strict about their input."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.campaign.generate import effects, intro_image, mixing, model3d, music, outcome_film, start_button
from examples.campaign.generate.game_config import configure_game
from examples.campaign.generate.json_values import InputError, document
from examples.campaign.generate.lettering import balance_lines
from examples.campaign.generate.look import look_for
from examples.campaign.generate.manifest import assemble
from examples.campaign.generate.planning import plan_from_brief
from examples.campaign.generate.score import STEPS_PER_BAR, score_for
from examples.campaign.generate.shapes import build_shape, shape_names

ROOT = Path(__file__).parents[3]
STYLES = ["energetic", "epic", "calm", "retro", "steampunk jungle", "Ünïcødé"]

_ELSEWHERE = """
import importlib.util, json, sys, tempfile
from pathlib import Path
spec = importlib.util.spec_from_file_location("campaign_conftest", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
workflow = module.read_workflow(module.load_workflow(module.CAMPAIGN / "campaign.build.v1.yaml"))
folder = module.ArtifactFolder(tempfile.mkdtemp(dir=sys.argv[2]))
build = module.Campaign(module.compile_workflow(workflow), folder).build(json.loads(sys.argv[3]))
print(json.dumps(build.hashes()))
"""


def test_another_process_makes_the_same_bytes(base: Any, tmp_path: Path) -> None:
    """A process with another hash seed, time zone and folder makes every file of the campaign byte for byte."""
    conftest = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", _ELSEWHERE, str(conftest), str(tmp_path), json.dumps(base.trigger)]
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "TZ": "Asia/Tokyo", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == base.hashes()


@pytest.mark.parametrize("style", STYLES)
def test_every_style_can_be_drawn_and_played(style: str) -> None:
    """Known and unknown styles give a picture, music of 8 to 12 s that fits its score, and a button."""
    drawn = intro_image.draw_intro(style, "A Title", look_for(style).tagline, "Go")
    assert drawn.image.size == (960, 540)
    assert start_button.cut_out(drawn.image, drawn.button, style).coverage > 0.9
    score = score_for(style)
    assert 8 <= score.duration_s <= 12
    for rhythm in (*score.drums.values(), score.bass, score.arpeggio, score.melody):
        assert len(rhythm) == STEPS_PER_BAR
    loop = music.compose(style, "A Title")
    assert np.isfinite(loop).all()
    assert mixing.loudness_lufs(loop) > -24


def test_style_and_title_decide_the_content() -> None:
    """Another style changes music, effects and picture; another title changes music and picture."""
    first, other = music.compose("calm", "One"), music.compose("calm", "Two")
    assert first.shape == other.shape
    assert not np.array_equal(first, other)
    assert not np.array_equal(effects.play_effects("calm")["win"], effects.play_effects("epic")["win"])
    pictures = [
        intro_image.draw_intro(style, title, "Tagline", "Go").image.tobytes()
        for style, title in (("calm", "One"), ("calm", "Two"), ("epic", "One"))
    ]
    assert len(set(pictures)) == 3


def test_unknown_styles_differ_from_each_other() -> None:
    """Two unknown words get looks and scores of their own; case and blanks around a word do not matter."""
    assert look_for("noir") != look_for("disco")
    assert score_for("noir") != score_for("disco")
    assert look_for(" Noir ") == look_for("noir")
    assert score_for("EPIC") == score_for("epic")


def test_outcome_text_decides_the_film() -> None:
    """Another text makes another film."""
    films = [
        outcome_film.film_outcome(outcome_film.Outcome.LOSE, "retro", words, "T", lambda _: None).data
        for words in ("Try again", "Oh no")
    ]
    assert films[0] != films[1]


@pytest.mark.parametrize("shape", shape_names())
def test_shapes_are_closed_and_face_outwards(shape: str) -> None:
    """Each part of a shape is a closed surface of positive volume that stands on the ground."""
    import trimesh

    parts = build_shape(shape, look_for("epic"))
    for part in parts:
        mesh = trimesh.Trimesh(part.points, part.faces, process=False)
        mesh.merge_vertices(digits_vertex=6)
        mesh.update_faces(mesh.nondegenerate_faces())
        assert mesh.is_watertight, part.name
        assert mesh.volume > 0, part.name
    assert abs(min(float(part.points[:, 1].min()) for part in parts)) < 0.01


@pytest.mark.parametrize("shape", shape_names())
def test_every_shape_meets_its_budget(shape: str) -> None:
    """Reduction to 1,500 triangles lands within a tenth of it for every shape."""
    model = model3d.reduce_model(model3d.build_model(shape, "retro").data, 1_500)
    assert model.triangles == pytest.approx(1_500, rel=0.1)


def test_extreme_boost_stays_below_the_peak_limit() -> None:
    """At the largest boost the limiter holds the peaks, whatever that costs in loudness."""
    mixed = mixing.mix(music.compose("energetic", "T"), effects.play_effects("energetic"), mixing.BOOST_MAX)
    assert mixed.true_peak_dbtp <= mixing.TRUE_PEAK_DBTP_MAX
    assert mixed.loudness_lufs > -12


def test_titles_are_set_in_balanced_lines() -> None:
    """Lines keep the words and their order, and no line is much longer than needed."""
    assert balance_lines("Summer Sale Campaign", 3, 13) == ["Summer Sale", "Campaign"]
    assert balance_lines("Zen", 3, 13) == ["Zen"]
    assert balance_lines("Supercalifragilistic", 3, 13) == ["Supercalifragilistic"]
    assert " ".join(balance_lines("a b c d e f g h i j k l m n o p", 3, 4)) == "a b c d e f g h i j k l m n o p"


def test_long_and_odd_words_fit_the_picture() -> None:
    """A headline of any length, also in one word, gives a picture with the button inside."""
    for headline in ("W" * 300, "a " * 200, "?"):
        drawn = intro_image.draw_intro("retro", headline, "Tagline", "L" * 100)
        assert drawn.button.left >= 0
        assert drawn.button.left + drawn.button.width <= intro_image.WIDTH


@pytest.mark.parametrize("brief", [{}, {"title": "x"}, {"title": " ", "style": "epic"}, {"title": 3, "style": "epic"}])
def test_incomplete_brief_is_refused(brief: dict[str, Any]) -> None:
    """A brief without title or style is refused by the name of what is missing."""
    with pytest.raises(InputError, match=r"title|style"):
        plan_from_brief(brief)


def test_bad_parameters_are_refused() -> None:
    """Unknown difficulty, shape, budget and boost are refused with the range that holds."""
    plan = plan_from_brief({"title": "T", "style": "epic"})
    with pytest.raises(InputError, match="easy, normal, hard"):
        configure_game(plan, "brutal", 30)
    with pytest.raises(InputError, match="10 to 600"):
        configure_game(plan, "easy", 5)
    with pytest.raises(ValueError, match="trophy, star, gem, gift"):
        model3d.build_model("teapot", "epic")
    with pytest.raises(ValueError, match="assetTriangles"):
        model3d.reduce_model(b"", 10)
    with pytest.raises(ValueError, match="volumeBoost"):
        mixing.mix(np.zeros((44_100, 2)), {}, 9.0)


def test_manifest_refuses_what_it_cannot_vouch_for() -> None:
    """A role without files and an artifact without a proper hash are refused."""
    plan = plan_from_brief({"title": "T", "style": "epic"})
    with pytest.raises(InputError, match="music: no artifact"):
        assemble("", plan, {"music": []})
    entry = {"filename": "a", "type": "x/y", "uri": "file:///a", "contentHash": "xyz", "sizeBytes": 1}
    with pytest.raises(InputError, match="SHA-256"):
        assemble("", plan, {"music": [entry]})


def test_documents_are_stable_text() -> None:
    """JSON files have sorted keys, real letters and one newline at the end."""
    assert document({"b": 1, "a": "é"}) == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()
