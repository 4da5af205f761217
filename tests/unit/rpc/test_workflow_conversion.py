"""Workflows between wire and domain, and their digest."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from google.protobuf import json_format

from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import document_of, format_workflow
from runengine_client.workflow import read_workflow as read_file
from runengine_server.domain.canonical_json import canonical_bytes, normalize_numbers
from runengine_server.domain.errors import InvalidError
from runengine_server.domain.ids import SkillId, StepId, WorkflowDigest
from runengine_server.domain.states import CacheMode, CacheScope, FailurePolicy
from runengine_server.domain.workflow import CachePolicy, ChangeRule, RetryPolicy, StepDefinition, Workflow
from runengine_server.rpc.conversion.workflow import read_workflow, workflow_to_proto
from runengine_server.rpc.conversion.workflow_digest import workflow_digest, workflow_json

FULL = Workflow(
    name="campaign.build.v1",
    version="1.2.3",
    description="a ü 😀 description",
    steps=(
        StepDefinition(
            step_id=StepId("plan"),
            skill_id=SkillId("planning.generate"),
            input_selector={"brief": "${{ trigger.brief }}", "n": 3, "x": 0.1, "list": [None, True, {}]},
            cache_policy=CachePolicy(enabled=False, scope=CacheScope.RUN_ONLY, hot_ttl_s=100_000),
            retry_policy=RetryPolicy(
                max_attempts=5, backoff_ms=2_000, max_backoff_ms=9_000, non_retryable_codes=("B", "A")
            ),
            timeout_s=1.5,
            description="first",
            verify_artifacts=True,
        ),
        StepDefinition(step_id=StepId("mix"), skill_id=SkillId("audio.mix"), depends_on=(StepId("plan"),)),
    ),
    change_rules=(
        ChangeRule(type="full_rebuild", seed_step_ids=("*",), cache_mode=CacheMode.REFRESH, description="all"),
        ChangeRule(type="audio.update", seed_step_ids=("mix",), cache_mode=CacheMode.DEFAULT),
    ),
    trigger_schema={"type": "object"},
    cache_epoch="2",
    failure_policy=FailurePolicy.FAIL_FAST,
    labels={"b": "1", "a": "2"},
)

BUILT = replace(FULL, steps=(replace(FULL.steps[0], verify_artifacts=False), FULL.steps[1]))
"""Without what is refused on the way in."""


def test_a_workflow_survives_the_wire() -> None:
    """Everything of a workflow arrives, serialised and back; the digest is filled in."""
    data = workflow_to_proto(BUILT).SerializeToString()
    read = read_workflow(workflow_pb2.Workflow.FromString(data))
    assert replace(read, digest=WorkflowDigest("")) == BUILT
    assert read.digest == workflow_digest(BUILT)


def test_a_workflow_survives_a_file() -> None:
    """What a server shows, printed as YAML or JSON and read again, has the same digest: registering it is a no-op."""
    shown = workflow_to_proto(replace(BUILT, digest=workflow_digest(BUILT)))
    printed = format_workflow(shown)
    assert read_workflow(read_file(printed)).digest == shown.digest, printed
    assert read_workflow(read_file(json.dumps(document_of(shown)), is_json=True)).digest == shown.digest


def test_defaults_are_filled_in() -> None:
    """A step that says nothing is cached globally for 24 h, tried three times and has no timeout of its own."""
    proto = workflow_pb2.Workflow(name="w", version="1.0.0", steps=[workflow_pb2.StepDefinition(step_id="a")])
    read = read_workflow(proto)
    assert read.steps[0].cache_policy == CachePolicy(enabled=True, scope=CacheScope.GLOBAL, hot_ttl_s=86_400)
    assert read.steps[0].retry_policy == RetryPolicy()
    assert (read.steps[0].timeout_s, read.trigger_schema) == (None, None)
    assert read.failure_policy is FailurePolicy.FINISH_RUNNING
    shown = workflow_to_proto(read)
    assert shown.steps[0].cache_policy.enabled
    assert shown.steps[0].cache_policy.hot_ttl.seconds == 86_400
    assert read_workflow(shown).digest == read.digest


def test_a_present_cache_policy_means_what_it_says() -> None:
    """`enabled` false in a CachePolicy that is there disables caching, though proto3 does not send the false."""
    step = workflow_pb2.StepDefinition(step_id="a", cache_policy=workflow_pb2.CachePolicy())
    assert not read_workflow(workflow_pb2.Workflow(steps=[step])).steps[0].cache_policy.enabled
    step.cache_policy.enabled = True
    policy = read_workflow(workflow_pb2.Workflow(steps=[step])).steps[0].cache_policy
    assert policy == CachePolicy(enabled=True, scope=CacheScope.GLOBAL)


def test_a_partial_retry_policy_keeps_the_other_defaults() -> None:
    """Zeros in a RetryPolicy mean the default, field by field."""
    step = workflow_pb2.StepDefinition(step_id="a", retry_policy=workflow_pb2.RetryPolicy(backoff_ms=3_000))
    policy = read_workflow(workflow_pb2.Workflow(steps=[step])).steps[0].retry_policy
    assert policy == replace(RetryPolicy(), backoff_ms=3_000)


def test_what_cannot_be_read_is_named_all_at_once() -> None:
    """Every parse error of a workflow is one violation with its path, in the order of the definition."""
    proto = workflow_to_proto(BUILT)
    proto.steps[0].cache_policy.hot_ttl.nanos = 5
    proto.steps[1].input_selector.fields["a/b"].number_value = 2.0**60
    proto.change_requests[1].cache_mode = 99  # type: ignore[assignment]
    proto.trigger_schema.fields["minimum"].number_value = float("inf")
    with pytest.raises(InvalidError) as caught:
        read_workflow(proto)
    assert caught.value.reason == "WORKFLOW_INVALID"
    assert [violation.field for violation in caught.value.violations] == [
        "steps[0].cachePolicy.hotTtl",
        "steps[1].inputSelector/a~1b",
        "changeRequests[1].cacheMode",
        "triggerSchema/minimum",
    ]
    assert "and 3 more" in caught.value.message


@pytest.mark.parametrize("timeout_s", [None, 0.1, 1.0, 1.5, 90.000_001, 1e-9, 86_400.0, 7_776_000.123])
def test_the_digest_is_over_the_proto_json(timeout_s: float | None) -> None:
    """The digested JSON is what protobuf's own printer makes of the message, digest and created_at aside."""
    steps = (replace(FULL.steps[0], timeout_s=timeout_s), FULL.steps[1])
    workflow = replace(FULL, steps=steps, digest=WorkflowDigest("d"), created_at=datetime(2026, 1, 1, tzinfo=UTC))
    printed = json_format.MessageToDict(workflow_to_proto(workflow), always_print_fields_with_no_presence=True)
    del printed["digest"], printed["createdAt"]
    assert canonical_bytes(workflow_json(workflow)) == canonical_bytes(normalize_numbers(printed))


def test_what_the_digest_depends_on() -> None:
    """The order of steps counts; the order of maps, the digest, created_at and spelled-out defaults do not."""
    digest = workflow_digest(FULL)
    assert workflow_digest(replace(FULL, steps=FULL.steps[::-1])) != digest
    assert workflow_digest(replace(FULL, description="other")) != digest
    keys = list(FULL.steps[0].input_selector)
    random.Random(1).shuffle(keys)
    shuffled = replace(FULL.steps[0], input_selector={key: FULL.steps[0].input_selector[key] for key in keys})
    same = replace(
        FULL,
        steps=(shuffled, FULL.steps[1]),
        labels=dict(reversed(FULL.labels.items())),
        digest=WorkflowDigest("x"),
        created_at=datetime.now(UTC),
        change_rules=(FULL.change_rules[0], replace(FULL.change_rules[1], cache_mode=None)),
    )
    assert workflow_digest(same) == digest


def test_the_digest_never_changes() -> None:
    """A published vector: stored digests stay valid across releases of ours and of protobuf."""
    assert workflow_digest(FULL) == "4ac32f03c0f5802f2aad7ceca153b25a44cf7e174eb91c2106392fb4c3662f56"
