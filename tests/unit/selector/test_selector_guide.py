"""Every example of the guide does what the guide says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from runengine_server.domain.canonical_json import canonical_bytes, normalize_numbers
from runengine_server.planner.selector import FixedScope, SelectorFailed, SelectorInvalid, compile_selector

GUIDE = (Path(__file__).parents[3] / "docs" / "selectors.md").read_text()
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)]


def scope_of(example: dict[str, Any]) -> FixedScope:
    scope = normalize_numbers(example.get("scope", {}))
    assert isinstance(scope, dict)
    steps: Any = scope.pop("steps", {})
    return FixedScope(
        **scope,  # type: ignore[arg-type]
        outputs={step_id: step["output"] for step_id, step in steps.items()},
        artifacts={step_id: step.get("artifacts", []) for step_id, step in steps.items()},
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(next(iter(example["selector"]))))
def test_the_guide_tells_the_truth(example: dict[str, Any]) -> None:
    """Each example gives the shown result, or is refused or fails at the shown place with the shown words."""
    if "refused" in example:
        with pytest.raises(SelectorInvalid) as refusal:
            compile_selector(example["selector"])
        found = {problem.pointer: problem.message for problem in refusal.value.problems}
        assert example["refused"]["message"] in found[example["refused"]["pointer"]]
        return
    selector = compile_selector(example["selector"])
    if "fails" in example:
        with pytest.raises(SelectorFailed) as failure:
            selector.resolve(scope_of(example))
        assert (failure.value.pointer, failure.value.message) == (
            example["fails"]["pointer"],
            example["fails"]["message"],
        )
        return
    resolved, encoded = selector.resolve_canonical(scope_of(example))
    assert encoded == canonical_bytes(example["gives"])
    assert repr(resolved) == repr(example["gives"])


def test_the_guide_has_examples_of_every_outcome() -> None:
    """The blocks were found, so that the test above means something."""
    assert len(EXAMPLES) >= 12
    for outcome in ("gives", "fails", "refused"):
        assert any(outcome in example for example in EXAMPLES)
