"""Decorating functions."""

from typing import Any

import pytest

from runengine_client.skills import AsyncSkillContext, SkillContext, SkillError, skill


def test_decorated_function_can_still_be_called() -> None:
    """A skill called like its function answers like it."""

    @skill("image.resize", version="3")
    def resize(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        """Resizes.

        More.
        """
        return {"w": given["w"] * 2}

    assert resize({"w": 2}, None) == {"w": 4}
    assert (resize.cache_version, resize.is_async, resize.description) == ("3", False, "Resizes.")


def test_async_function_is_recognised() -> None:
    """An `async def` becomes an async skill."""

    @skill("a", cache_version="c")
    async def work(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        return {}

    assert work.is_async
    assert work.cache_version == "c"


@pytest.mark.parametrize("skill_id", ["", "A", "1a", "a-b", "a" * 129, "a\n"])
def test_wrong_id_is_refused(skill_id: str) -> None:
    """Ids follow the contract's pattern."""
    with pytest.raises(ValueError, match="skill id"):
        skill(skill_id)


@pytest.mark.parametrize("code", ["lower", "", "1A", "A-B", "A" * 65])
def test_wrong_failure_code_is_refused(code: str) -> None:
    """Failure codes are upper snake case."""
    with pytest.raises(ValueError, match="upper snake case"):
        SkillError(code, "m")
