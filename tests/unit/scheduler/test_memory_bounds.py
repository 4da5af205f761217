"""What the scheduler keeps in memory is bounded, and reloaded when it was dropped."""

import orjson
import pytest

from runengine_server.domain.ids import Place, RunKey, StepNo
from runengine_server.domain.states import OutputSource
from runengine_server.planner.step_input import StepValue
from runengine_server.ports.run_store import StoredOutput
from runengine_server.scheduler.run_contexts import RunContexts
from runengine_server.scheduler.values import StepValues

from .stage import SystemClock, chain, stage

pytestmark = pytest.mark.anyio


class CountingStore:
    """The part of a RunStore that values need."""

    def __init__(self) -> None:
        self.asked: list[Place] = []

    async def outputs(self, steps: list[Place]) -> dict[Place, StoredOutput]:
        self.asked += steps
        return {
            place: StoredOutput(body=orjson.dumps({"n": place[1]}), artifacts=(), source=OutputSource.EXECUTED)
            for place in steps
            if place[0] == 1
        }


def _place(step: int, run: int = 1) -> Place:
    return RunKey(run), StepNo(step)


async def test_values_are_loaded_once_and_in_one_batch() -> None:
    """What is not at hand is read together; the next time it is at hand. What does not exist is left out."""
    store = CountingStore()
    values = StepValues(store, 1_000)  # type: ignore[arg-type]
    found = await values.get([_place(0), _place(1), _place(1), _place(0, run=2)])
    assert {place: value.output for place, value in found.items()} == {_place(0): {"n": 0}, _place(1): {"n": 1}}
    assert store.asked == [_place(0), _place(1), _place(0, run=2)]
    await values.get([_place(0), _place(1)])
    assert len(store.asked) == 3


async def test_values_are_bounded_by_bytes() -> None:
    """Beyond the bound the oldest values go; one that is larger than the bound is not kept at all."""
    store = CountingStore()
    values = StepValues(store, 100)  # type: ignore[arg-type]
    for step in range(5):
        values.put(_place(step), StepValue({"kept": step}), 40)
    found = await values.get([_place(step) for step in range(5)])
    assert store.asked == [_place(0), _place(1), _place(2)]
    assert found[_place(4)].output == {"kept": 4}
    values.put(_place(9), StepValue({}), 101)
    await values.get([_place(9)])
    assert store.asked[-1] == _place(9)


async def test_a_value_is_kept_once() -> None:
    """Putting a value again does not count its bytes again."""
    store = CountingStore()
    values = StepValues(store, 100)  # type: ignore[arg-type]
    for _ in range(10):
        values.put(_place(0), StepValue({}), 60)
    values.put(_place(1), StepValue({}), 40)
    await values.get([_place(0), _place(1)])
    assert not store.asked


async def test_contexts_are_bounded_and_reloaded() -> None:
    """Of more runs than the bound the least used are dropped, and read again when they are needed."""
    async with stage(is_running=False) as on:
        runs = [await on.start(chain(), {"x": n}, announce=False) for n in range(4)]
        contexts = RunContexts(on.store, on.workflows, SystemClock(), 2)
        assert set(await contexts.get(runs)) == set(runs)
        again = await contexts.get([runs[0], RunKey(99)])
        assert [context.facts.payload for context in again.values()] == [{"x": 0}]


async def test_primed_facts_save_the_read_and_are_forgotten() -> None:
    """A run created here needs no read; once it has ended nothing of it stays."""
    async with stage(is_running=False) as on:
        run = await on.start(chain(), {"x": 1}, announce=False)
        facts = (await on.store.facts([run]))[run]
        contexts = RunContexts(on.store, on.workflows, SystemClock(), 10)
        contexts.prime(facts)
        del on.tables.runs[run]
        assert (await contexts.get([run]))[run].facts is facts
        contexts.forget(run)
        assert not await contexts.get([run])
