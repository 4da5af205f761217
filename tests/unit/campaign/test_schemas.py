"""The schemas that the campaign's skills declare fit what they are given and what they make."""

import json
from typing import Any

import pytest

from examples.campaign.schemas import INPUTS, OUTPUTS
from examples.campaign.skills import SKILLS
from runengine_client.skills import wire
from runengine_server.adapters.skills.struct_values import object_of
from runengine_server.domain.json_value import JsonObject
from runengine_server.planner.payload_schema import schema_problems
from runengine_server.planner.skill_schema import SkillSchemas


def _as_the_engine_has_it(skill_id: str, *, is_input: bool) -> JsonObject:
    listed = {skill.skill_id: skill for skill in wire.catalogue_of(SKILLS).skills}[skill_id]
    return object_of(listed.input_schema if is_input else listed.output_schema)


def test_every_skill_declares_both() -> None:
    """No skill is without schemas, no schema without a skill, and the engine can use each of them."""
    ids = {skill.skill_id for skill in SKILLS}
    assert INPUTS.keys() == OUTPUTS.keys() == ids
    for skill_id in ids:
        for is_input in (True, False):
            assert schema_problems(_as_the_engine_has_it(skill_id, is_input=is_input)) == []


def test_sample_campaign_conforms(campaign: Any, base: Any) -> None:
    """Every input and output of the sample campaign satisfies its skill's schema."""
    schemas = SkillSchemas()
    for step in campaign.compiled.workflow.steps:
        given, made = json.loads(base.inputs[step.step_id]), base.outputs[step.step_id]
        assert schemas.problems(_as_the_engine_has_it(step.skill_id, is_input=True), given) == [], step.step_id
        assert schemas.problems(_as_the_engine_has_it(step.skill_id, is_input=False), made) == [], step.step_id


@pytest.mark.parametrize(
    ("skill_id", "given", "pointer"),
    [
        ("planning.generate_campaign_plan", {"brief": {"title": " ", "style": "epic"}}, "/brief/title"),
        ("audio.generate_sfx_pack", {"style": 1}, "/style"),
        ("audio.generate_sfx_pack", {}, ""),
        ("audio.mix_for_game", {"music": {}, "effects": [], "volumeBoost": 1}, "/effects"),
    ],
)
def test_bad_input_is_named(skill_id: str, given: JsonObject, pointer: str) -> None:
    """Input that a skill cannot use departs from its schema at that place."""
    problems = SkillSchemas().problems(_as_the_engine_has_it(skill_id, is_input=True), given)
    assert pointer in [problem.pointer for problem in problems]
