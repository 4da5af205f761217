"""What a plan remembers of the cache entries that it found and could not use."""

from dataclasses import replace
from datetime import UTC, datetime

from runengine_server.domain.json_value import JsonObject

from .bench import Bench, actions, echo, step, workflow

PAYLOAD: JsonObject = {"x": 1, "y": 1}


def test_a_plan_tells_which_entries_it_turned_down() -> None:
    """It says when the newest of the entries was filed that it found and could not use; None when it found none."""
    bench = Bench(
        workflow=workflow(step("plan", trigger=["x"]), step("music", "plan"), step("side", trigger=["y"])), skill=echo
    )
    assert bench.start(PAYLOAD).plan.cache_after is None
    assert bench.plan(bench.request(PAYLOAD)).cache_after is None
    filed_at = {"plan": datetime(2026, 1, 1, tzinfo=UTC), "side": datetime(2026, 1, 2, tzinfo=UTC)}
    bench.cache = {
        key: replace(entry, created_at=filed_at.get(key.step_id, datetime(2026, 1, 3, tzinfo=UTC)))
        for key, entry in bench.cache.items()
    }
    bench.versions = {"plan": "2", "side": "2"}
    plan = bench.plan(bench.request(PAYLOAD))
    assert actions(plan)["plan"] == actions(plan)["side"] == "EXECUTE INITIAL"
    assert plan.cache_after == filed_at["side"], "what waits for an executed step was not looked up"
