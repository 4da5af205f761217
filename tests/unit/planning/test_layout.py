"""From a plan to rows: what waits, what is ready, and answers that survive being kept."""

import zlib

from runengine_server.domain.ids import RunId
from runengine_server.domain.states import RunStatus
from runengine_server.service.messages import TriggerAnswer
from runengine_server.service.new_run import decode_answer, encode_answer, lay_out

from .bench import Bench, constant, echo, step, workflow

STEPS = (step("a", trigger=["x"]), step("b", "a", reads=()), step("c", "b", reads=["a", "b"]), step("d", "c", "b"))


def test_an_initial_run_waits_for_everything() -> None:
    """Steps without dependencies are ready, the others wait for each of theirs."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    layout = lay_out(bench.compiled, bench.plan(bench.request({"x": 1})), lambda step: 7)
    assert layout.waiting_for == (0, 1, 2, 2)
    assert layout.ready == ((0, 7),)


def test_reused_steps_wait_for_nothing_and_hold_nobody_up() -> None:
    """What is reused is done; a step waits for the executing ones it depends on or reads."""
    bench = Bench(workflow=workflow(*STEPS), skill=constant)
    base = bench.start({"x": 1}).base
    plan = bench.plan(bench.request({"x": 2}, base=base, seeds=["a"]))
    assert [planned.action.name for planned in plan.steps] == ["EXECUTE", "REUSE", "UNKNOWN", "UNKNOWN"]
    layout = lay_out(bench.compiled, plan, lambda step: 7)
    assert layout.waiting_for == (0, 0, 1, 1)
    assert layout.ready == ((0, 7),)


def test_a_kept_answer_is_the_answer() -> None:
    """A repetition gets run id, status, message and plan of the first answer, marked as a repetition."""
    bench = Bench(workflow=workflow(*STEPS), skill=echo)
    base = bench.start({"x": 1}).base
    plan = bench.plan(bench.request({"x": 2}, base=base, seeds=["a"]))
    answer = TriggerAnswer(run_id=RunId("r"), status=RunStatus.QUEUED, message="m", plan=plan)
    kept = decode_answer(encode_answer(answer))
    assert kept.deduplicated
    assert (kept.run_id, kept.status, kept.message) == ("r", RunStatus.QUEUED, "m")
    assert kept.plan is not None
    assert (kept.plan.digest, kept.plan.seed_step_ids, kept.plan.base_run_id) == (plan.digest, ("a",), "run-1")
    assert kept.plan.to_execute_count == plan.to_execute_count
    assert [(s.step_id, s.action, s.reason, s.unknown_until) for s in kept.plan.steps] == [
        (s.step_id, s.action, s.reason, s.unknown_until) for s in plan.steps
    ]


def test_a_short_answer_is_kept_as_it_is() -> None:
    """An answer without a plan is a zlib stream too, as earlier versions read it, whose content is not compressed."""
    kept = encode_answer(TriggerAnswer(run_id=RunId("r"), status=RunStatus.QUEUED, message="m" * 200))
    assert b"m" * 200 in kept
    assert b'"runId":"r"' in zlib.decompress(kept)
    answer = decode_answer(kept)
    assert (answer.run_id, answer.status, answer.message, answer.plan) == ("r", RunStatus.QUEUED, "m" * 200, None)
