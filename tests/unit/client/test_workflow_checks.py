"""What lint finds without a server, and what it warns of."""

import pytest

from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_client.workflow.advice import advise
from runengine_client.workflow.checks import check_workflow
from runengine_client.workflow.step_reads import find_reads
from runengine_server.planner import step_validation, validation


def found(workflow: workflow_pb2.Workflow) -> dict[str, str]:
    return {each.field: each.description for each in check_workflow(workflow)}


def test_everything_at_once():
    """Ids, limits, references and change requests that are wrong are all reported, each at its field."""
    builder = (
        WorkflowBuilder("Demo", version="1.0")
        .step("Plan", skill="Demo", timeout="8d", hot_ttl="1h", max_attempts=21, non_retryable_codes=["oops"])
        .step("a", skill="demo.a", needs=["a", "nobody", "b", "b"], backoff_ms=2000, max_backoff_ms=1000)
        .step("b", skill="demo.b", input={"x": [expression("steps.c.output")], "y": expression("steps.b.output")})
        .step("a", skill="demo.a")
        .change("1", seeds=[])
        .change("x", seeds=["*", "nobody", "a", "a"])
    )
    assert sorted(found(builder.build())) == [
        'changeRequests["1"]',
        'changeRequests["1"].seedStepIds',
        'changeRequests["x"].seedStepIds[0]',
        'changeRequests["x"].seedStepIds[1]',
        'changeRequests["x"].seedStepIds[3]',
        "steps[0].cachePolicy.hotTtl",
        "steps[0].retryPolicy.maxAttempts",
        "steps[0].retryPolicy.nonRetryableCodes[0]",
        "steps[0].skillId",
        "steps[0].stepId",
        "steps[0].timeout",
        "steps[1].dependsOn[0]",
        "steps[1].dependsOn[1]",
        "steps[1].dependsOn[3]",
        "steps[1].retryPolicy.maxBackoffMs",
        "steps[2].inputSelector/x/0",
        "steps[2].inputSelector/y",
        "steps[3].stepId",
        "version",
        "workflowName",
    ]


def test_cycles_are_named_in_order():
    """Each cycle is one error with its steps, each waiting for the next; steps behind it are not blamed."""
    builder = WorkflowBuilder("demo", version="1.0.0")
    for step_id, needs in {
        "a": ["c"],
        "b": ["a"],
        "c": ["b", "r"],
        "d": ["c"],
        "x": ["y"],
        "y": ["x"],
        "r": [],
    }.items():
        builder.step(step_id, skill="demo.x", needs=needs)
    assert {field: text.rpartition(": ")[2] for field, text in found(builder.build()).items()} == {
        "steps[0].dependsOn[0]": "a → c → b → a",
        "steps[4].dependsOn[0]": "x → y → x",
    }


def test_reads_need_an_ancestor():
    """A step may read what it waits for, directly or not; a step beside it is an error that says what to add."""
    workflow = (
        WorkflowBuilder("demo", version="1.0.0")
        .step("a", skill="demo.a")
        .step("b", skill="demo.b", needs=["a"])
        .step("c", skill="demo.c", needs=["b"], input={"far": expression("steps.a.output")})
        .step("d", skill="demo.d", needs=["a"], input={"beside": expression("steps.c.output")})
        .build()
    )
    assert list(found(workflow)) == ["steps[3].inputSelector/beside"]
    assert "add 'c' to dependsOn of 'd'" in found(workflow)["steps[3].inputSelector/beside"]


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("steps.a.output", ["a"]),
        ('steps["a"].output.x + steps . b .artifacts[0].uri', ["a", "b"]),
        ("trigger.steps.a", []),
        ("trigger.?steps.a", []),
        ('"steps.a.output" + \'steps.b\' + "\\"steps.c"', []),
        ("trigger.x // steps.a.output", []),
        ('r"\\" + steps.a.output', ["a"]),
        ('has(steps.a.output.x) ? {"steps": steps.b.output} : [run.id]', ["a", "b", ""]),
        ("run.workflowName", []),
        ("trigger.run.id", []),
    ],
)
def test_reads_of_an_expression(text: str, reads: list[str]):
    """Steps and the run's id are found in code, however they are written, and not in texts and comments."""
    workflow = WorkflowBuilder("demo", version="1.0.0").step("x", skill="y", input={"v": expression(text)}).build()
    assert [read.step_id for read in find_reads(workflow.steps[0].input_selector)] == reads


def test_text_is_not_read():
    """What is not an expression reads nothing."""
    texts = {"a": "steps.a.output", "b": "$${{ steps.a.output }}", "c": 1}
    workflow = WorkflowBuilder("demo", version="1.0.0").step("x", skill="y", input=texts).build()
    assert list(find_reads(workflow.steps[0].input_selector)) == []


def test_advice():
    """Steps out of reach or alone, dependencies not read, and settings without effect are warnings, not errors."""
    workflow = (
        WorkflowBuilder("demo", version="1.0.0")
        .step("a", skill="demo.a")
        .step("b", skill="demo.b", needs=["a"], input={"id": expression("run.id")})
        .step("c", skill="demo.c", hot_ttl="24h", cache=False, max_attempts=1, backoff_ms=5)
        .step("d", skill="demo.d", needs=["b"], input={"b": expression("steps.b.output")}, cache="run_only")
        .change("b.update", seeds=["b"])
        .build()
    )
    assert {each.field for each in advise(workflow)} == {
        "steps[0]",
        "steps[1].dependsOn[0]",
        "steps[1].inputSelector/id",
        "steps[2]",
        "steps[2].cachePolicy.hotTtl",
        "steps[2].retryPolicy.backoffMs",
    }
    assert check_workflow(workflow) == []


def test_no_advice_without_reason():
    """A workflow whose change request reaches everything, and whose steps read what they wait for, gets none."""
    workflow = (
        WorkflowBuilder("demo", version="1.0.0")
        .step("a", skill="demo.a")
        .step("b", skill="demo.b", needs=["a"], input={"a": expression("steps.a.output")})
        .change("all", seeds="*")
        .build()
    )
    assert advise(workflow) == []


def test_limits_are_the_servers():
    """The client's copies of the server's limits are equal to them."""
    from runengine_client.workflow import checks

    for name in ("STEPS_MAX", "EDGES_MAX"):
        assert getattr(checks, name) == getattr(validation, name)
    for name in ("ATTEMPTS_MAX", "BACKOFF_MS_MAX"):
        assert getattr(checks, name) == getattr(step_validation, name)
    for name in ("_NAME", "_CHANGE_TYPE"):
        assert getattr(checks, name) == getattr(validation, name)
    for name in ("_STEP_ID", "_SKILL_ID", "_CODE"):
        assert getattr(checks, name) == getattr(step_validation, name)
    ranges = [checks.HOT_TTL_RANGE, checks.TIMEOUT_RANGE]
    assert [tuple(each.total_seconds() for each in pair) for pair in ranges] == [
        (step_validation.HOT_TTL_S_MIN, step_validation.HOT_TTL_S_MAX),
        (step_validation.TIMEOUT_S_MIN, step_validation.TIMEOUT_S_MAX),
    ]
