"""Property: a workflow has one digest, however it reaches the server; and lint never contradicts the server."""

import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import rfc8785
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from runengine_client.errors import FieldViolation as ClientViolation
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowBuilder, document_of, expression, format_workflow
from runengine_client.workflow import read_workflow as read_text
from runengine_client.workflow.checks import check_workflow
from runengine_server.domain.errors import FieldViolation as ServerViolation
from runengine_server.planner.validation import validate_workflow
from runengine_server.rpc.conversion.workflow import read_workflow, workflow_to_proto

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer() or abs(value) < 2**53),
    TEXT,
    st.sampled_from(["yes", "010", "1e3", "~", "2026-01-19", expression("trigger.brief"), "$${{ text }}"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
SPANS = st.timedeltas(timedelta(microseconds=1), timedelta(days=7))
IDS = st.sampled_from([f"step_{number}" for number in range(8)])
STEP_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "needs": st.lists(IDS, max_size=3),
        "input": OBJECTS,
        "cache": st.sampled_from([True, False, "global", "run_only"]),
        "hot_ttl": st.integers(86_400, 172_800).map(lambda seconds: timedelta(seconds=seconds)),
        "max_attempts": st.integers(1, 20),
        "backoff_ms": st.integers(1, 60_000),
        "max_backoff_ms": st.integers(60_000, 86_400_000),
        "non_retryable_codes": st.lists(st.sampled_from(["A", "B_C"]), max_size=2),
        "timeout": SPANS | st.sampled_from(["60s", "250ms", "1h30m"]),
        "description": TEXT,
    },
)
WORKFLOW_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "description": TEXT,
        "trigger_schema": OBJECTS,
        "cache_epoch": TEXT,
        "failure_policy": st.sampled_from(["finish_running", "fail_fast"]),
        "labels": st.dictionaries(TEXT, TEXT, max_size=3),
    },
)
CHANGES = st.dictionaries(
    st.sampled_from(["audio.update", "intro.update", "full_rebuild", "x]y"]),
    st.tuples(st.lists(IDS, max_size=2) | st.just(["*"]), st.sampled_from([None, "default", "refresh"]), TEXT),
    max_size=3,
)


@st.composite
def builders(draw: st.DrawFn) -> WorkflowBuilder:
    """A workflow as somebody may write it, right or wrong."""
    options: Any = draw(WORKFLOW_OPTIONS)
    name, version = (
        draw(st.sampled_from(["demo", "Demo", "a.b-c"])),
        draw(st.sampled_from(["1.0.0", "1.0", "2.0.0-rc.1"])),
    )
    builder = WorkflowBuilder(name, version=version, **options)
    for step_id in draw(st.lists(IDS, min_size=1, max_size=5)):
        step: Any = draw(STEP_OPTIONS)
        reads = draw(st.lists(IDS, max_size=2))
        step["input"] = {
            **step.get("input", {}),
            **{f"read_{n}": expression(f"steps.{r}.output") for n, r in enumerate(reads)},
        }
        builder.step(step_id, skill=draw(st.sampled_from(["demo.skill", "Demo"])), **step)
    for change_type, (seeds, mode, description) in draw(CHANGES).items():
        builder.change(change_type, seeds=seeds, cache_mode=mode, description=description or None)
    return builder


@given(builders())
def test_one_digest(builder: WorkflowBuilder) -> None:
    """From Python, YAML, JSON, the wire, and what a server shows: the same digest, and a stranger can recompute it."""
    built = builder.build()
    digest = read_workflow(built).digest
    assert read_workflow(read_text(format_workflow(built))).digest == digest
    assert read_workflow(read_text(json.dumps(document_of(built)), is_json=True)).digest == digest
    assert read_workflow(workflow_pb2.Workflow.FromString(built.SerializeToString())).digest == digest
    shown = workflow_to_proto(read_workflow(built))
    assert read_workflow(shown).digest == digest
    assert read_workflow(read_text(format_workflow(shown))).digest == digest
    assert recomputed(shown) == digest


def recomputed(shown: workflow_pb2.Workflow) -> str:
    """The digest as docs/workflows.md says to compute it, with nothing of the server's."""
    document = json_format.MessageToDict(shown, always_print_fields_with_no_presence=True)
    for key in ("digest", "createdAt"):
        document.pop(key, None)
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()


@given(builders())
def test_lint_agrees_with_the_server(builder: WorkflowBuilder) -> None:
    """What lint calls an error without a server is one to the server, at the same field, and nearly the reverse."""
    workflow = builder.build()
    server, has_server_cycle = _fields(validate_workflow(read_workflow(workflow), lambda _: True))
    client, has_client_cycle = _fields(check_workflow(workflow))
    assert client <= server
    left_to_the_server = (".inputSelector", "triggerSchema", "labels", "cacheEpoch")
    assert [each for each in server - client if not any(part in each for part in left_to_the_server)] == []
    assert has_client_cycle == has_server_cycle


def _fields(violations: Sequence[ClientViolation | ServerViolation]) -> tuple[set[str], bool]:
    """The fields that are wrong, and whether there is a cycle; which of its steps names it is free."""
    cycles = [each for each in violations if "form a cycle" in each.description]
    return {each.field for each in violations if each not in cycles}, bool(cycles)
