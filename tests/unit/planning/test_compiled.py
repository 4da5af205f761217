"""A compiled workflow: what each step waits for, and that a workflow nobody validated is refused."""

import pytest

from runengine_server.planner.compiled import compile_workflow

from .bench import step, workflow


def test_a_step_waits_for_what_it_reads() -> None:
    """An ancestor that is read is waited for like one that is depended on; levels and closure stay what they were."""
    compiled = compile_workflow(
        workflow(step("a"), step("b", "a", reads=()), step("c", "b", reads=["a"]), step("d", "c", reads=["c", "a"]))
    )
    assert compiled.dependencies == ((), (0,), (0, 1), (0, 2))
    assert compiled.dependents == ((1, 2, 3), (2,), (3,), ())
    assert compiled.reads == ((), (), (0,), (0, 2))
    assert compiled.levels == (0, 1, 2, 3)
    assert compiled.closure([1]) == {1, 2, 3}  # type: ignore[list-item]


@pytest.mark.parametrize(
    "steps",
    [
        (step("a", "gone", reads=()),),
        (step("a", reads=["gone"]),),
        (step("a", "b", reads=()), step("b", "a", reads=())),
    ],
    ids=["unknown dependency", "unknown read", "cycle"],
)
def test_what_was_not_validated_is_refused(steps: tuple[object, ...]) -> None:
    """A dependency that is unknown, a read that is unknown and a cycle are ValueErrors."""
    with pytest.raises(ValueError, match=r"workflow wf 1\.0\.0"):
        compile_workflow(workflow(*steps))  # type: ignore[arg-type]
