"""The skills around the generators: failures, progress and what they declare."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples.campaign.skills import SKILLS
from runengine_client.skills import ArtifactFolder, SkillContext, SkillError

BY_ID = {skill.skill_id: skill for skill in SKILLS}


def _context(folder: Path, fractions: list[float]) -> SkillContext:
    handle: Any = SimpleNamespace(
        artifact_store=ArtifactFolder(folder),
        is_cancelled=False,
        add_artifact=lambda artifact: None,
        report_progress=lambda fraction, message, reported_at: fractions.append(fraction),
    )
    return SkillContext(handle)


def test_skills_describe_themselves() -> None:
    """Thirteen skills, each with a one-line description, a version and a time limit."""
    assert len(BY_ID) == len(SKILLS) == 13
    for skill in SKILLS:
        assert skill.description.endswith("."), skill.skill_id
        assert skill.default_timeout_s is not None
        assert not skill.is_async


@pytest.mark.parametrize(
    ("skill_id", "given"),
    [
        ("planning.generate_campaign_plan", {}),
        ("planning.generate_campaign_plan", {"brief": {"title": "", "style": "epic"}}),
        ("audio.mix_for_game", {"music": {}, "effects": [], "volumeBoost": "loud"}),
        ("asset3d.generate", {"plan": {"style": "epic"}, "shape": "teapot"}),
        ("game.config_from_template", {"plan": {}, "difficulty": "easy", "roundSeconds": 1}),
    ],
)
def test_bad_input_fails_for_good(skill_id: str, given: dict[str, Any], tmp_path: Path) -> None:
    """Input that can never work ends in INPUT_INVALID, which is not retried."""
    with pytest.raises(SkillError) as failure:
        BY_ID[skill_id](given, _context(tmp_path, []))
    assert (failure.value.code, failure.value.retryable) == ("INPUT_INVALID", False)


def test_films_report_progress(tmp_path: Path) -> None:
    """A film tells how far it is, never backwards."""
    fractions: list[float] = []
    given = {"plan": {"title": "T"}, "text": "You win!", "style": "calm"}
    BY_ID["video.generate_outcome_win"](given, _context(tmp_path, fractions))
    assert len(fractions) >= 3
    assert fractions == sorted(fractions)
