"""What lies in bytea columns comes back as it was."""

import itertools

import pytest

from runengine_server.adapters.postgres.encoding import (
    decode_body,
    decode_decision,
    decode_failure,
    encode_body,
    encode_decision,
    encode_failure,
)
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, StepId
from runengine_server.domain.states import CacheOutcome, CacheTier, MissReason


def test_decisions() -> None:
    """Every decision comes back equal, with the key it is given."""
    plain = [CacheDecision(outcome=o, miss_reason=m) for o, m in itertools.product(CacheOutcome, [None, *MissReason])]
    hit = CacheDecision(
        outcome=CacheOutcome.HIT, tier=CacheTier.COLD, source_run_id=RunId("r"), source_step_id=StepId("s"), age_s=1.5
    )
    changed = CacheDecision(
        outcome=CacheOutcome.MISS,
        miss_reason=MissReason.INPUT_CHANGED,
        changed_pointers=("/a", "/b/0"),
        nearest_run_id=RunId("n"),
    )
    aged = CacheDecision(outcome=CacheOutcome.HIT, age_s=2.0)
    for decision in (*plain, hit, changed, aged):
        assert decode_decision(encode_decision(decision), "") == decision
    assert decode_decision(encode_decision(hit), "w:s:h").key == "w:s:h"


def test_failures() -> None:
    """Every failure comes back equal; SQL's, with code and message only, is read too."""
    full = Failure(code="A", message="ä", retryable=True, details={"x": [1, None]}, step_id="s", attempt=3)
    for failure in (full, Failure(code="A", message="")):
        assert decode_failure(encode_failure(failure)) == failure
    assert decode_failure(b'{"code" : "A", "message" : "b"}') == Failure(code="A", message="b")


def test_unwritable_failure() -> None:
    """A failure whose text is no Unicode, or whose details are no JSON, is recorded all the same."""
    odd = Failure(code="A", message="file \udcff", details={"n": 2**70})
    assert decode_failure(encode_failure(odd)) == Failure(code="A", message="file ?")


@pytest.mark.parametrize("body", [b"{}", b"x" * 2048, b"x" * 2049, bytes(range(256)) * 20])
def test_bodies(body: bytes) -> None:
    """A body comes back; it is compressed only above 2 KB and where that helps."""
    stored, is_compressed = encode_body(body)
    assert decode_body(stored, is_compressed) == body
    assert is_compressed == (len(stored) < len(body))
    assert not (is_compressed and len(body) <= 2048)
