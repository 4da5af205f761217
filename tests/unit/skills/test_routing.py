"""Which runner a skill goes to."""

from typing import Any

import pytest

from runengine_client.skills import SkillContext, skill
from runengine_server.adapters.skills.local_runner import LocalSkillRunner
from runengine_server.adapters.skills.routing import Route, RoutingSkillRunner, route_targets
from runengine_server.adapters.skills.targets import TargetError, parse_targets
from runengine_server.domain.ids import SkillId

_SKILL_IDS = ("image.resize", "image.raw.load", "image.other", "imagery.x", "image", "audio.mix")


def _runner(version: str) -> LocalSkillRunner:
    """A runner that offers every skill in this version."""

    def function(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        return {}

    return LocalSkillRunner([skill(skill_id, version=version)(function) for skill_id in _SKILL_IDS])


@pytest.mark.parametrize(
    ("skill_id", "expected"),
    [
        ("image.resize", "exact"),
        ("image.raw.load", "longer"),
        ("image.other", "shorter"),
        ("imagery.x", "star"),
        ("image", "star"),
    ],
)
def test_most_specific_pattern_wins(skill_id: str, expected: str) -> None:
    """Exact before prefix, longer prefix before shorter, `*` last; `image.*` needs the dot."""
    patterns = {"*": "star", "image.*": "shorter", "image.raw.*": "longer", "image.resize": "exact"}
    runner = RoutingSkillRunner([Route(pattern=key, runner=_runner(name)) for key, name in patterns.items()])
    info = runner.availability(SkillId(skill_id)).info
    assert info is not None
    assert info.version == expected


def test_unmatched_skill_has_no_target() -> None:
    """No pattern is "no target"; a target that does not list the skill is not."""
    runner = route_targets(parse_targets("image.*=local:"), local=_runner("a"))
    assert not runner.availability(SkillId("audio.mix")).has_target
    missing = runner.availability(SkillId("image.nothing"))
    assert missing.has_target and missing.is_catalogue_known and missing.info is None


def test_catalogue_shows_what_is_routed() -> None:
    """A skill that a runner offers but that is routed elsewhere is not in the list."""
    runner = route_targets(parse_targets("image.*=local:"), local=_runner("a"))
    assert set(runner.catalogue()) == {"image.resize", "image.raw.load", "image.other"}


def test_local_without_functions_is_refused() -> None:
    """`local:` with nothing registered in this process is a configuration error."""
    with pytest.raises(TargetError, match="no functions"):
        route_targets(parse_targets("*=local:"))
