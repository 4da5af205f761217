"""Property: a stored workflow is read back equal, whatever its author put into it."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runengine_server.adapters.postgres.workflow_encoding import decode_workflow, encode_workflow
from runengine_server.domain.ids import WorkflowDigest
from runengine_server.domain.json_value import INTEGER_MAX
from runengine_server.domain.states import CacheMode, CacheScope, FailurePolicy
from runengine_server.domain.workflow import CachePolicy, ChangeRule, RetryPolicy, StepDefinition, Workflow

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COUNTS = st.integers(0, 2**31 - 1)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-INTEGER_MAX, INTEGER_MAX),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
STEPS = st.builds(
    StepDefinition,
    step_id=TEXT,
    skill_id=TEXT,
    depends_on=st.lists(TEXT, max_size=3).map(tuple),
    input_selector=OBJECTS,
    cache_policy=st.builds(CachePolicy, enabled=st.booleans(), scope=st.sampled_from(CacheScope), hot_ttl_s=COUNTS),
    retry_policy=st.builds(
        RetryPolicy,
        max_attempts=COUNTS,
        backoff_ms=COUNTS,
        max_backoff_ms=COUNTS,
        non_retryable_codes=st.lists(TEXT, max_size=2).map(tuple),
    ),
    timeout_s=st.none() | st.floats(0, 1e6),
    description=TEXT,
    verify_artifacts=st.booleans(),
)
RULES = st.builds(
    ChangeRule,
    type=TEXT,
    seed_step_ids=st.lists(TEXT, max_size=3).map(tuple),
    cache_mode=st.none() | st.sampled_from(CacheMode),
    description=TEXT,
)
WORKFLOWS = st.builds(
    Workflow,
    name=TEXT,
    version=TEXT,
    steps=st.lists(STEPS, max_size=3).map(tuple),
    change_rules=st.lists(RULES, max_size=2).map(tuple),
    description=TEXT,
    trigger_schema=st.none() | OBJECTS,
    cache_epoch=TEXT,
    failure_policy=st.sampled_from(FailurePolicy),
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    digest=st.just(WorkflowDigest("d")),
)


@given(WORKFLOWS)
def test_encoding_loses_nothing(workflow: Workflow) -> None:
    """Every field comes back with its value, its type and its order."""
    back = decode_workflow(encode_workflow(workflow), digest=workflow.digest, created_at=None)
    assert back == workflow
    assert repr(back) == repr(workflow)


def test_a_newer_format_is_refused() -> None:
    """A definition that a newer release wrote is said to be that, instead of being misread."""
    fields = orjson.loads(encode_workflow(Workflow(name="a", version="1.0.0", steps=())))
    fields["format"] = 2
    with pytest.raises(ValueError, match="format 2"):
        decode_workflow(orjson.dumps(fields), digest=WorkflowDigest("d"), created_at=None)
