"""Files and builders give the same workflow, and every mistake in a file is reported at once."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from runengine_client.workflow import (
    WorkflowBuilder,
    WorkflowDocumentError,
    document_of,
    expression,
    format_workflow,
    load_directory,
    load_workflow,
    read_directory,
    read_workflow,
)
from runengine_client.workflow.document import workflow_of
from runengine_client.workflow.durations import format_duration, parse_duration
from runengine_client.workflow.files import is_workflow_file

FULL = """
workflowName: campaign.build.v1
version: 1.0.0
description: Builds a campaign.
cacheEpoch: "2026-01"
failurePolicy: fail_fast
labels: {team: games}
triggerSchema: {type: object, required: [brief]}
steps:
  - stepId: plan
    skillId: planning.plan
    inputSelector: {brief: "${{ trigger.brief }}", weights: [1, 2.5, null, true]}
    cachePolicy: {enabled: true, scope: global, hotTtl: 24h}
    retryPolicy: {maxAttempts: 3, backoffMs: 3000, maxBackoffMs: 60000, nonRetryableCodes: [OUTPUT_INVALID]}
    timeout: 1m30s
    description: Plans.
  - stepId: music
    skillId: audio.music
    dependsOn: [plan]
    inputSelector: {plan: "${{ steps.plan.output }}"}
    cachePolicy: {enabled: true, scope: run_only}
    verifyArtifacts: true
  - stepId: bare
    skillId: demo.bare
changeRequests:
  audio.update: [music]
  full_rebuild: {seedStepIds: ["*"], cacheMode: refresh, description: Everything.}
"""


def built() -> WorkflowBuilder:
    return (
        WorkflowBuilder(
            "campaign.build.v1",
            version="1.0.0",
            description="Builds a campaign.",
            cache_epoch="2026-01",
            failure_policy="fail_fast",
            labels={"team": "games"},
            trigger_schema={"type": "object", "required": ["brief"]},
        )
        .step(
            "plan",
            skill="planning.plan",
            input={"brief": expression("trigger.brief"), "weights": (1, 2.5, None, True)},
            cache=True,
            hot_ttl=timedelta(hours=24),
            max_attempts=3,
            backoff_ms=3000,
            max_backoff_ms=60000,
            non_retryable_codes=["OUTPUT_INVALID"],
            timeout=timedelta(seconds=90),
            description="Plans.",
        )
        .step(
            "music",
            skill="audio.music",
            needs=["plan"],
            input={"plan": expression("steps.plan.output")},
            cache="run_only",
            verify_artifacts=True,
        )
        .step("bare", skill="demo.bare")
        .change("audio.update", seeds=["music"])
        .change("full_rebuild", seeds="*", cache_mode="refresh", description="Everything.")
    )


def test_file_and_builder_agree():
    """The same workflow from YAML and from Python is the same message, but for the scope `cache=True` leaves unsaid."""
    from_file = read_workflow(FULL)
    from_python = built().build()
    from_file.steps[0].cache_policy.scope = 0  # GLOBAL, said or unsaid, is the same to the server
    assert from_python == from_file


def test_explicit_scope_agrees_exactly():
    """Said in the same words, file and builder agree to the byte."""
    text = (
        "workflowName: a\nversion: 1.0.0\nsteps: [{stepId: x, skillId: y, cachePolicy: {enabled: true, scope: global}}]"
    )
    assert WorkflowBuilder("a", version="1.0.0").step("x", skill="y", cache="global").build() == read_workflow(text)


def test_round_trip():
    """A workflow printed as a document reads back as the same message."""
    workflow = read_workflow(FULL)
    assert workflow_of(document_of(workflow)) == workflow


def test_round_trip_through_yaml():
    """A workflow printed as YAML reads back as the same message, enums as words."""
    workflow = read_workflow(FULL)
    text = format_workflow(workflow)
    assert read_workflow(text) == workflow
    for line in ("failurePolicy: fail_fast", "scope: global", "scope: run_only", "cacheMode: refresh"):
        assert line in text


TEXTS = (
    "yes no on null ~ true 010 1e3 -0.5e3 .5 1_000 0x1f 0b1 2026-01-19 1:30 << = - ? ! & * [ { # @ ` % | > a:b a: :a"
)


@pytest.mark.parametrize("text", [*TEXTS.split(), "", " a ", "a\nb\n", "a # b", "\x85\u2028", "tab\t", "é😀", "'\"\\"])
def test_text_is_printed_as_text(text):
    """Whatever a text looks like, it is a text again when its printed form is read, here or by any YAML 1.1 reader."""
    workflow = WorkflowBuilder("a", version="1.0.0").step("x", skill="y", input={"v": [text], f"k{text}": 1}).build()
    printed = format_workflow(workflow)
    assert read_workflow(printed) == workflow
    assert yaml.safe_load(printed)["steps"][0]["inputSelector"]["v"] == [text]


@pytest.mark.parametrize("number", [0, -1, 2**53 - 1, 0.1, -1e-7, 1.5e15, 1e-300])
def test_numbers_are_printed_as_numbers(number):
    """Numbers keep every digit."""
    workflow = WorkflowBuilder("a", version="1.0.0").step("x", skill="y", input={"v": number}).build()
    assert read_workflow(format_workflow(workflow)) == workflow


def test_absent_stays_absent():
    """What a file leaves out is unset in the message, for the server to decide."""
    bare = read_workflow(FULL).steps[2]
    for name in ("input_selector", "cache_policy", "retry_policy", "timeout"):
        assert not bare.HasField(name)


def test_every_mistake_at_once():
    """Unknown keys, missing fields and wrong types are all reported, with paths and suggestions."""
    text = """
workflowName: 3
steps:
  - {stepId: a, skilId: x, timeout: 60, dependsOn: plan, verifyArtifacts: "yes"}
  - {stepId: b, skillId: y, retryPolicy: {maxAttempts: 0, backoffMs: 1.5}, cachePolicy: {scope: world, ttl: 3h}}
  - nonsense
changeRequests: {x: 3, y: [1], z: {seeds: [a]}}
labels: {a: 1}
owner: me
"""
    with pytest.raises(WorkflowDocumentError) as caught:
        read_workflow(text, "demo.yaml")
    assert caught.value.source == "demo.yaml"
    assert str(caught.value).startswith("demo.yaml: 17 errors\n")
    found = {each.field: each.description for each in caught.value.violations}
    assert sorted(found) == [
        "changeRequests[x]",
        "changeRequests[y][0]",
        "changeRequests[z].seeds",
        "labels[a]",
        "owner",
        "steps[0].dependsOn",
        "steps[0].skilId",
        "steps[0].skillId",
        "steps[0].timeout",
        "steps[0].verifyArtifacts",
        "steps[1].cachePolicy.scope",
        "steps[1].cachePolicy.ttl",
        "steps[1].retryPolicy.backoffMs",
        "steps[1].retryPolicy.maxAttempts",
        "steps[2]",
        "version",
        "workflowName",
    ]
    assert "did you mean skillId?" in found["steps[0].skilId"]
    assert "global, run_only" in found["steps[1].cachePolicy.scope"]


PLACES = """\
workflowName: a
version: 1
steps:
  - stepId: x
    skilId: y
    inputSelector:
      a: {b: 99999999999999999999, "c/d": [1, 123456789012345678901], b: 3}
changeRequests: {"x.y]": 3, x: [1], x: []}
labels: {a: {}}
version: 2
"""


PLACES_JSON = """\
{"workflowName": "a", "version": 1, "steps": [
  {"stepId": "x",
   "skilId": "y", "inputSelector": {"a": {
     "b": 99999999999999999999, "c/d": [1, 123456789012345678901],
     "b": 3}}}],
 "changeRequests": {"x.y]": 3, "x": [1], "x": []},
 "labels": {"a": {}},
 "version": 2}
"""


@pytest.mark.parametrize(("text", "is_json"), [(PLACES, False), (PLACES_JSON, True)], ids=["yaml", "json"])
def test_violations_have_places(text: str, is_json: bool):
    """Every violation names line and column of its key, or of the innermost part that is there, in both formats."""
    with pytest.raises(WorkflowDocumentError) as caught:
        read_workflow(text, "f", is_json=is_json)
    lines = ["", *text.splitlines()]
    found = [(each.field, lines[each.line][each.column - 1 :]) for each in caught.value.violations]
    expected = [
        ("version", "version"),
        ("steps[0].skillId", "{" if is_json else "stepId"),
        ("steps[0].skilId", "skilId"),
        ("steps[0].inputSelector/a/b", "b"),
        ("steps[0].inputSelector/a/c~1d/1", "123456789012345678901"),
        ("steps[0].inputSelector/a/b", "b"),
        ("changeRequests[x.y]]", "x.y]"),
        ("changeRequests[x][0]", "1]"),
        ("changeRequests[x]", "x"),
        ("labels[a]", "a"),
        ("version", "version"),
    ]
    assert [field for field, _ in found] == [field for field, _ in expected]
    for (field, there), (_, start) in zip(found, expected, strict=True):
        assert there.removeprefix('"').startswith(start), field
    assert (caught.value.violations[-1].line, caught.value.violations[-1].column) == ((8, 2) if is_json else (10, 1))


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "a: {b: 1, b: 2}",
        "a: [",
        "a: !!python/object/apply:os.system [true]",
        "--- {}\n--- {}",
        "1: x",
        "- a",
        "",
    ],
)
def test_not_a_document(text):
    """Duplicate keys, broken YAML, tags, several documents and non-objects are refused."""
    with pytest.raises(WorkflowDocumentError):
        read_workflow(text)


def test_duplicate_key_in_json():
    """JSON is as strict as YAML."""
    with pytest.raises(WorkflowDocumentError, match="appears twice"):
        read_workflow('{"version": "1.0.0", "version": "1.0.1"}', is_json=True)


def test_scalars_mean_what_they_mean_in_json():
    """YAML's own ideas about words, octals, dates and clock times do not get in."""
    values = "[yes, 010, 2026-01-19, 1:30, ~, 1e3, -0.5, <<]"
    text = f"workflowName: a\nversion: 1.0.0\nsteps: [{{stepId: x, skillId: y, inputSelector: {{v: {values}}}}}]"
    struct = read_workflow(text).steps[0].input_selector
    assert list(struct["v"]) == ["yes", "010", "2026-01-19", "1:30", None, 1000, -0.5, "<<"]


def test_alias_bomb():
    """Aliases that expand without end are refused instead of filling the memory."""
    lines = ["b0: &b0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 10)}]" for n in range(1, 9)]
    body = "\n        ".join(lines)
    text = (
        f"workflowName: a\nversion: 1.0.0\nsteps:\n  - stepId: x\n    skillId: y\n    inputSelector:\n        {body}\n"
    )
    with pytest.raises(WorkflowDocumentError, match="more than 100000 values"):
        read_workflow(text)


def test_directory(tmp_path: Path):
    """A directory gives its workflows by file name, or every error of every file."""
    (tmp_path / "b.yaml").write_text(FULL)
    (tmp_path / "a.json").write_text('{"workflowName": "a", "version": "1.0.0", "steps": []}')
    (tmp_path / "notes.txt").write_text("not a workflow")
    assert [workflow.name for workflow in load_directory(tmp_path)] == ["a", "campaign.build.v1"]
    assert load_workflow(tmp_path / "b.yaml") == read_workflow(FULL)
    (tmp_path / "c.yml").write_text(FULL)
    (tmp_path / "d.yaml").write_text("steps: 3")
    with pytest.raises(WorkflowDocumentError) as caught:
        load_directory(tmp_path)
    assert {each.field for each in caught.value.violations} == {
        "c.yml: workflowName",
        "d.yaml:1: workflowName",
        "d.yaml:1: version",
        "d.yaml:1: steps",
    }


@pytest.mark.parametrize(
    ("name", "text", "is_meant"),
    [
        ("brief.json", '{"brief": {"steps": []}}', False),
        ("list.json", "[1, 2]", False),
        ("settings.yaml", "owner: me", False),
        ("empty.yaml", "", False),
        ("demo.yaml", "workflowName: demo", True),
        ("flow.yaml", "{steps: []}", True),
        ("misspelt.json", '{"workflow_name": "demo"}', True),
        ("twice.yaml", "a: 1\na: 2", False),
        ("broken.json", '{"brief": ', True),
        ("broken.yaml", "a: [", True),
        ("nothing.workflow.json", "{}", True),
        ("demo.txt", "workflowName: demo", False),
    ],
)
def test_which_files_are_workflows(tmp_path: Path, name: str, text: str, is_meant: bool):
    """Other files may lie beside workflows; what is meant as one, or cannot be read at all, is never left out."""
    (tmp_path / name).write_text(text)
    assert is_workflow_file(tmp_path / name) is is_meant


def test_directory_names_what_it_skips(tmp_path: Path):
    """A directory of an example with its payloads gives the workflow, and says what else was there."""
    (tmp_path / "demo.yaml").write_text(FULL)
    (tmp_path / "brief.json").write_text('{"brief": {"style": "epic"}}')
    directory = read_directory(tmp_path)
    assert [each.name for each in directory.workflows] == ["campaign.build.v1"]
    assert [each.name for each in directory.skipped] == ["brief.json"]


def test_builder_checks_too():
    """A builder reports wrong kinds with the same paths, and a change type only once."""
    with pytest.raises(WorkflowDocumentError) as caught:
        WorkflowBuilder("a", version="1.0.0").step("x", skill="y", timeout="soon", max_attempts=0).build()
    assert {each.field for each in caught.value.violations} == {"steps[0].timeout", "steps[0].retryPolicy.maxAttempts"}
    with pytest.raises(ValueError, match="already defined"):
        built().change("audio.update", seeds=["plan"])


def test_builder_refuses_misspelt_options():
    """A keyword that no step or workflow has is a TypeError, instead of a default where another value was meant."""
    with pytest.raises(TypeError, match="unknown option epoch; there are description, "):
        WorkflowBuilder("demo", version="1.0.0", epoch="2")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unknown option scope; there are needs, "):
        WorkflowBuilder("demo", version="1.0.0").step("a", skill="demo.a", scope="run_only")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("60s", timedelta(seconds=60)),
        ("24h", timedelta(days=1)),
        ("1h30m", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5s", timedelta(milliseconds=1500)),
    ],
)
def test_durations(text, span):
    """Durations mean what they say, and are printed so that they read back."""
    assert parse_duration(text) == span
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize("microseconds", [1, 250, 1_500, 999_999, 90_000_001, 10**13 + 1])
def test_durations_keep_microseconds(microseconds):
    """Nothing of a span is lost on the way through its text."""
    span = timedelta(microseconds=microseconds)
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize("text", ["", "60", "s", "1 h", "-1s", "1h-", "1e9h", "9" * 30 + "d"])
def test_not_durations(text):
    """Anything else is refused."""
    with pytest.raises(ValueError):
        parse_duration(text)
