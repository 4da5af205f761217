"""The shipped workflow: valid, as documented, and its changes re-run exactly the steps they claim."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.campaign.skills import SKILLS
from runengine_server.domain.states import CacheMode, CacheScope
from runengine_server.planner.validation import validate_workflow

CAMPAIGN = Path(__file__).parents[3] / "examples" / "campaign"

DOWNSTREAM = {
    "audio.update": {"generate_bgm_track", "generate_sfx_pack", "mix_audio_for_game"},
    "intro.update": {"generate_intro_image", "segment_start_button", "generate_intro_video_loop"},
    "outcome.update": {"generate_outcome_video_win", "generate_outcome_video_lose"},
    "game_config.update": {"game_config_from_template"},
    "asset3d.replace": {"generate_3d_asset", "optimize_3d_asset"},
}


def test_workflow_passes_validation_with_the_skills_it_ships(campaign: Any) -> None:
    """The workflow has no violation, and its thirteen steps use each shipped skill once."""
    offered = {skill.skill_id for skill in SKILLS}
    workflow = campaign.compiled.workflow
    assert validate_workflow(workflow, lambda skill_id: skill_id in offered) == []
    assert sorted(step.skill_id for step in workflow.steps) == sorted(offered)
    assert len(workflow.steps) == 13


def test_every_step_caches_globally_and_keeps_the_known_retry_figures(campaign: Any) -> None:
    """All steps share the cache; plan and intro image retry 3 × from 3 s, music 3 × from 5 s."""
    steps = {step.step_id: step for step in campaign.compiled.workflow.steps}
    assert all(step.cache_policy.enabled and step.cache_policy.scope is CacheScope.GLOBAL for step in steps.values())
    retries = {name: (step.retry_policy.max_attempts, step.retry_policy.backoff_ms) for name, step in steps.items()}
    assert retries["campaign_plan_from_brief"] == (3, 3000)
    assert retries["generate_intro_image"] == (3, 3000)
    assert retries["generate_bgm_track"] == (3, 5000)


@pytest.mark.parametrize("change_type", sorted(DOWNSTREAM))
def test_change_re_runs_its_seeds_and_the_manifest(
    change_type: str, campaign: Any, updated: Callable[[str], Any]
) -> None:
    """With the sample payload each seed's input truly changes, its output too, and nothing else runs."""
    rule = next(rule for rule in campaign.compiled.workflow.change_rules if rule.type == change_type)
    assert set(rule.seed_step_ids) == DOWNSTREAM[change_type]
    assert set(updated(change_type).executed) == DOWNSTREAM[change_type] | {"assemble_campaign_manifest"}


def test_change_reaches_its_seeds_by_their_own_keys(campaign: Any, base: Any, samples: dict[str, Any]) -> None:
    """Each seed's input differs by the payload alone, its producers' results left as they were."""
    from runengine_server.domain.merge_patch import merge_patch
    from runengine_server.planner.selector.scope import FixedScope

    for change_type, seeds in DOWNSTREAM.items():
        trigger = merge_patch(base.trigger, samples["changes"][change_type])
        scope = FixedScope(trigger=trigger, outputs=base.outputs, artifacts=base.artifacts)
        changed = {
            step.step_id
            for number, step in enumerate(campaign.compiled.workflow.steps)
            if campaign.compiled.selectors[number].resolve_canonical(scope)[1] != base.inputs[step.step_id]
        }
        assert changed == seeds, change_type


def test_full_rebuild_refreshes_every_step(campaign: Any) -> None:
    """The rule names all steps and does not read the cache."""
    rule = next(rule for rule in campaign.compiled.workflow.change_rules if rule.type == "full_rebuild")
    assert (rule.seed_step_ids, rule.cache_mode) == (("*",), CacheMode.REFRESH)


def test_louder_mix_alone_keeps_music_and_effects(campaign: Any, base: Any) -> None:
    """A payload with only a boost re-runs the mix and the manifest."""
    assert campaign.update(base, {"volumeBoost": 0.8}).executed == ["mix_audio_for_game", "assemble_campaign_manifest"]


def test_readme_shows_the_sample_payloads(samples: dict[str, Any]) -> None:
    """The JSON blocks of the README are the payloads the tests use."""
    text = (CAMPAIGN / "README.md").read_text(encoding="utf-8")
    blocks = {name: json.loads(body) for name, body in re.findall(r"```json (\S+)\n(.*?)```", text, re.DOTALL)}
    assert blocks.pop("trigger") == samples["trigger"]
    assert blocks == samples["changes"]


def test_readme_lists_every_step_and_change_type(campaign: Any) -> None:
    """No step, skill or change type of the workflow is missing from the README's tables."""
    text = (CAMPAIGN / "README.md").read_text(encoding="utf-8")
    workflow = campaign.compiled.workflow
    names = [step.step_id for step in workflow.steps] + [step.skill_id for step in workflow.steps]
    assert [name for name in names + [rule.type for rule in workflow.change_rules] if f"`{name}`" not in text] == []
