"""What is remembered of finished calls, and for how long."""

from runengine_client.skills.invocation import CallSucceeded
from runengine_client.skills.replay_store import FinishedCall, ReplayStore


class Time:
    """A clock the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _finished(size: int = 2) -> FinishedCall:
    success = CallSucceeded(output_json=b"x" * size)
    return FinishedCall(skill_id="s", input_hash="h", skill_version="1", cache_version="1", success=success)


def test_entries_expire() -> None:
    """A success is found until its time is over."""
    clock = Time()
    store = ReplayStore(ttl_s=10, monotonic=clock)
    store.put(("t", "k"), _finished())
    clock.now = 9.9
    assert store.get(("t", "k")) is not None
    clock.now = 10.0
    assert store.get(("t", "k")) is None
    assert len(store) == 0


def test_least_recently_used_goes_first() -> None:
    """Beyond the count, what was not asked for goes."""
    store = ReplayStore(count_max=2)
    for key in "ab":
        store.put(("t", key), _finished())
    store.get(("t", "a"))
    store.put(("t", "c"), _finished())
    assert [key for key in "abc" if store.get(("t", key))] == ["a", "c"]


def test_bytes_are_bounded() -> None:
    """Beyond the bytes, old entries go; replacing an entry does not count it twice."""
    store = ReplayStore(bytes_max=5000)
    for _ in range(10):
        store.put(("t", "a"), _finished(3000))
    assert len(store) == 1
    store.put(("t", "b"), _finished(3000))
    assert store.get(("t", "a")) is None
    assert store.get(("t", "b")) is not None
