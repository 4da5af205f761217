"""Steps a request forces: executed whatever base and cache hold, in every mode."""

import pytest

from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import CacheMode

from .bench import Bench, actions, constant, echo, step, workflow

PAYLOAD: JsonObject = {"x": 1, "y": 1}
STEPS = (
    step("plan", trigger=["x"]),
    step("music", "plan"),
    step("mix", "music"),
    step("side", trigger=["y"]),
)


@pytest.mark.parametrize("mode", CacheMode)
def test_a_forced_step_of_an_update_executes(mode: CacheMode) -> None:
    """FORCED executes in every mode although base and cache hold its output; what follows is DOWNSTREAM."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(PAYLOAD).base
    done = bench.start(PAYLOAD, base=base, seeds=["side"], forced=["music"], mode=mode)
    plan = actions(done.plan)
    assert plan["plan"] == "REUSE UNAFFECTED"
    assert plan["music"] == "EXECUTE FORCED"
    assert plan["mix"] == ("EXECUTE DOWNSTREAM" if mode is CacheMode.BYPASS else "UNKNOWN DOWNSTREAM")
    assert "music" in done.executed
    assert ("mix" in done.executed) is (mode is CacheMode.BYPASS), "an equal output cuts off what follows"


@pytest.mark.parametrize("mode", CacheMode)
def test_a_forced_step_is_written_to_the_cache(mode: CacheMode) -> None:
    """What was forced is filed, also in a run that otherwise writes nothing."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    bench.start(PAYLOAD)
    done = bench.start(PAYLOAD, forced=["plan"], mode=mode)
    entry = next(entry for key, entry in bench.cache.items() if key.step_id == "plan")
    assert entry.producer.run_id == done.base.run_id


def test_a_forced_step_of_an_initial_run_executes() -> None:
    """An initial run reuses what is cached, but not what is forced."""
    bench = Bench(workflow=workflow(*STEPS), skill=constant)
    bench.start(PAYLOAD)
    done = bench.start(PAYLOAD, forced=["music"])
    assert actions(done.plan) == {
        "plan": "REUSE CACHED",
        "music": "EXECUTE FORCED",
        "mix": "UNKNOWN INITIAL",
        "side": "REUSE CACHED",
    }
    assert done.executed == {"music"}


def test_a_forced_seed_is_forced() -> None:
    """A step that is a seed and forced counts as forced: the request outranks the change rule."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(PAYLOAD).base
    plan = bench.plan(bench.request(PAYLOAD, base=base, seeds=["side", "music"], forced=["music"]))
    assert actions(plan)["music"] == "EXECUTE FORCED"
    assert plan.seed_step_ids == ("side", "music")


def test_forced_steps_are_part_of_the_digest() -> None:
    """The same plan with and without force has another digest, whatever the order they are named in."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start(PAYLOAD).base
    digests = [
        bench.plan(bench.request(PAYLOAD, base=base, seeds=["side"], forced=forced)).digest
        for forced in ([], ["music"], ["music", "side"], ["side", "music"])
    ]
    assert len(set(digests)) == 3
    assert digests[2] == digests[3]
