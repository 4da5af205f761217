"""Every way a step can end up has its sentence, and the first one says the most."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.events import StepProgress, StepsSummary
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, SkillId, StepId, WorkflowDigest
from runengine_server.domain.run import ChangeRequest, Run, Step, StepAttempt
from runengine_server.domain.states import (
    CacheMode,
    CacheOutcome,
    CacheTier,
    MissReason,
    OutputSource,
    PlanReason,
    RunStatus,
    StepStatus,
    TriggerType,
)
from runengine_server.planner.explain import BaseStep, Dependency, StepFacts, explain
from runengine_server.planner.input_changes import InputChange, InputChanges, Source, SourceKind

NOW = datetime(2026, 1, 19, 10, 0, tzinfo=UTC)
RUN = Run(
    id=RunId("r"),
    workflow_name="w",
    workflow_version="1.0.0",
    workflow_digest=WorkflowDigest("00"),
    status=RunStatus.RUNNING,
    trigger_type=TriggerType.INITIAL,
    steps_summary=StepsSummary(total=1, pending=1, running=0, completed=0, skipped=0, failed=0, cancelled=0),
    created_at=NOW,
    updated_at=NOW,
    last_sequence=1,
)
UPDATE = replace(
    RUN,
    trigger_type=TriggerType.UPDATE,
    base_run_id=RunId("b"),
    change_request=ChangeRequest(type="audio.update", payload={}),
)
STEP = Step(
    run_id=RunId("r"),
    step_id=StepId("mix"),
    skill_id=SkillId("s"),
    status=StepStatus.COMPLETED,
    depends_on=(),
    level=1,
    attempt=1,
    max_attempts=3,
    input_hash="11",
    output_source=OutputSource.EXECUTED,
    duration_ms=5234,
)
BASE = BaseStep(run_id=RunId("b"), workflow_version="1.0.0", has_output=True, input_hash="11", cache_version="1")
FACTS = StepFacts(step=STEP, run=RUN, mode=CacheMode.DEFAULT, reason=PlanReason.INITIAL, cache_version="1")


def told(
    facts: StepFacts = FACTS,
    *,
    step: dict[str, object] | None = None,
    run: Run | None = None,
    **changes: object,
) -> tuple[str, ...]:
    changed = replace(facts, step=replace(facts.step, **(step or {})), run=run or facts.run)  # type: ignore[arg-type]
    return explain(replace(changed, **changes))  # type: ignore[arg-type]


def differing(*pointers: str, is_cut: bool = False) -> InputChanges:
    return InputChanges(
        changes=tuple(
            InputChange(
                pointer=pointer,
                before='"calm"',
                after='"epic"',
                sources=(Source(kind=SourceKind.TRIGGER, name=pointer),),
            )
            for pointer in pointers
        ),
        is_cut=is_cut,
    )


def test_initial_execution() -> None:
    """A first execution says that there was nothing to build on, and how it went."""
    assert told() == (
        "mix was executed because the run is an initial one, with no base run to build on.",
        "It succeeded in 5.2 s at attempt 1 of 3.",
    )


@pytest.mark.parametrize(
    ("reason", "first"),
    [
        (PlanReason.FORCED, "mix was executed because the request forces it."),
        (PlanReason.NO_BASE_OUTPUT, "mix was executed because base run b has no output of it."),
        (PlanReason.SEED, "mix was executed because the change request audio.update names it."),
        (
            PlanReason.WIDENED,
            "mix was executed because the change request audio.update reaches it although it is not declared to "
            "(the impact was widened).",
        ),
        (
            PlanReason.DEFINITION_CHANGED,
            "mix was executed because version 1.0.0 defines it differently from version 1.0.0 of base run b.",
        ),
    ],
)
def test_reasons_of_the_plan(reason: PlanReason, first: str) -> None:
    """Each reason to execute is told, where no difference of the input is known."""
    assert told(run=UPDATE, reason=reason, base=BASE)[0] == first


def test_downstream_names_whose_output_changed() -> None:
    """Of the dependencies those with another output than in the base are named."""
    dependencies = [
        Dependency(step_id=StepId(name), status=StepStatus.COMPLETED, source=OutputSource.EXECUTED, is_changed=changed)
        for name, changed in (("music", True), ("plan", False), ("art", True))
    ]
    assert told(run=UPDATE, reason=PlanReason.DOWNSTREAM, base=BASE, dependencies=dependencies)[0] == (
        "mix was executed because it depends on music and art, whose output changed."
    )


def test_differences_come_first() -> None:
    """What changed in the input is the answer, each place a sentence, the rest counted; then what the plan says."""
    pointers = [f"/{n}" for n in range(10)]
    sentences = told(
        run=UPDATE,
        reason=PlanReason.SEED,
        base=replace(BASE, input_hash="00", changes=differing(*pointers, is_cut=True)),
    )
    assert sentences[0] == (
        'mix was executed because its input changed at /0: "calm" -> "epic", which comes from the change request at /0.'
    )
    assert sentences[7].startswith("Also, its input changed at /7: ")
    assert sentences[8] == "Also, its input changed in 2 further places at least."
    assert sentences[9] == "Also, the change request audio.update names it."


def test_values_come_before_hashes() -> None:
    """What a person can read is told first, also where hashes sort before it and more than are told differ."""
    files = [f"/files/{n}/{field}" for n in range(3) for field in ("contentHash", "sizeBytes", "uri")]
    hashed = InputChange(pointer="/of", before=None, after=f'"v1-{"0f" * 32}"', sources=())
    readable = differing("/style", "/volume")
    changes = replace(readable, changes=(*differing(*files).changes, hashed, *readable.changes))
    update = {"run": UPDATE, "reason": PlanReason.DOWNSTREAM, "base": replace(BASE, input_hash="00", changes=changes)}
    nearest = CacheDecision(
        outcome=CacheOutcome.MISS, miss_reason=MissReason.INPUT_CHANGED, nearest_run_id=RunId("near")
    )
    for sentences, begins in (
        (told(**update), "its input changed at "),  # type: ignore[arg-type]
        (told(nearest=changes, step={"cache": nearest}), "its input differs at "),
    ):
        places = [said.partition(begins)[2].partition(":")[0] for said in sentences if begins in said]
        assert places == ["/style", "/volume", *files[:6]]
        assert any("in 4 further places." in said for said in sentences)


@pytest.mark.parametrize(
    ("outcome", "reason", "sentence"),
    [
        (CacheOutcome.MISS, MissReason.NEVER_SEEN, "Cache miss: the cache has never held an output of this step."),
        (
            CacheOutcome.MISS,
            MissReason.SKILL_CHANGED,
            "Cache miss: the cached output of this input was made by another skill or cache version.",
        ),
        (
            CacheOutcome.MISS,
            MissReason.EPOCH_CHANGED,
            "Cache miss: the cached output of this input belongs to another cache epoch of the workflow.",
        ),
        (CacheOutcome.MISS, MissReason.INVALIDATED, "Cache miss: the cached output of this input was invalidated."),
        (CacheOutcome.MISS, MissReason.EVICTED, "Cache miss: the cached output of this input was cleaned up."),
        (
            CacheOutcome.MISS,
            MissReason.ARTIFACT_GONE,
            "Cache miss: an artifact of the cached output no longer exists.",
        ),
        (CacheOutcome.DISABLED, None, "Caching is disabled for this step."),
        (
            CacheOutcome.DISABLED,
            MissReason.SCOPE,
            "The step's cache scope is run_only: other runs never reuse its output.",
        ),
        (CacheOutcome.REFRESHED, None, "The cache was not read but gets the new output (refresh)."),
        (CacheOutcome.BYPASSED, None, "The cache was neither read nor written (bypass)."),
        (
            CacheOutcome.LOOKUP_FAILED,
            None,
            "The cache could not be asked: it, or the version of the skill, was not known.",
        ),
    ],
)
def test_what_the_cache_said(outcome: CacheOutcome, reason: MissReason | None, sentence: str) -> None:
    """Each outcome and each reason of a miss is told."""
    assert told(step={"cache": CacheDecision(outcome=outcome, miss_reason=reason)})[1] == sentence


def test_every_reason_of_a_miss_has_words() -> None:
    """No reason falls through to the words for an unknown one."""
    for reason in MissReason:
        text = told(step={"cache": CacheDecision(outcome=CacheOutcome.MISS, miss_reason=reason)})[1]
        assert "there is no entry" not in text


def test_modes() -> None:
    """A mode that reuses nothing is a cause; one that stores nothing is said with the miss."""
    assert "the cache mode refresh reuses nothing" in told(mode=CacheMode.REFRESH)[0]
    assert "the cache mode bypass reuses nothing" in told(mode=CacheMode.BYPASS)[0]
    miss = CacheDecision(outcome=CacheOutcome.MISS, miss_reason=MissReason.NEVER_SEEN)
    assert told(mode=CacheMode.READ_ONLY, step={"cache": miss})[1].endswith("is not stored (read_only).")


def test_another_version_of_the_skill() -> None:
    """With the base's input the new cache version of the skill is the cause."""
    assert told(run=UPDATE, reason=PlanReason.DOWNSTREAM, base=BASE, cache_version="2")[0] == (
        "mix was executed because the cache version of its skill changed: 1 -> 2."
    )


def test_the_nearest_success() -> None:
    """A nearest success other than the base's is named with its differences."""
    decision = CacheDecision(outcome=CacheOutcome.MISS, miss_reason=MissReason.INPUT_CHANGED, nearest_run_id=RunId("n"))
    sentences = told(step={"cache": decision}, nearest=differing("/style"))
    assert sentences[2:4] == (
        "The nearest earlier success is that of run n:",
        'its input differs at /style: "calm" -> "epic", which comes from the trigger payload at /style.',
    )
    assert not any("nearest" in s for s in told(step={"cache": decision}, base=replace(BASE, run_id=RunId("n"))))


SKIPPED: dict[str, object] = {"status": StepStatus.SKIPPED, "source_run_id": RunId("p"), "attempt": 0}


def test_reused_from_the_base() -> None:
    """Reuse from the base says why, and who executed it if that was another run; in a retry, that it had finished."""
    skipped = {**SKIPPED, "output_source": OutputSource.BASE_RUN}
    assert told(run=UPDATE, base=BASE, step=skipped, reason=PlanReason.UNAFFECTED) == (
        "mix was reused from base run b, executed by run p: the change request audio.update does not reach it.",
    )
    retry = replace(UPDATE, trigger_type=TriggerType.RETRY)
    own = {**skipped, "source_run_id": RunId("b")}
    assert told(run=retry, base=BASE, step=own, reason=PlanReason.UNAFFECTED) == (
        "mix was reused from the retried run b: it had finished there.",
    )
    cutoff = Dependency(
        step_id=StepId("music"), status=StepStatus.COMPLETED, source=OutputSource.EXECUTED, is_changed=False
    )
    sentences = told(run=UPDATE, base=BASE, step=own, reason=PlanReason.DOWNSTREAM, dependencies=[cutoff])
    assert sentences[:2] == (
        "mix was reused from base run b: its input is the same as there.",
        "music executed again and gave the same output as before (early cutoff).",
    )


@pytest.mark.parametrize(
    ("source", "tier", "word"),
    [(OutputSource.CACHE_HOT, CacheTier.HOT, "hot"), (OutputSource.CACHE_COLD, CacheTier.COLD, "cold")],
)
def test_cache_hits(source: OutputSource, tier: CacheTier, word: str) -> None:
    """A hit names the tier, the run and the age of the output."""
    decision = CacheDecision(outcome=CacheOutcome.HIT, tier=tier, age_s=7500.0)
    assert told(step={**SKIPPED, "output_source": source, "cache": decision}) == (
        f"mix was not executed: the {word} cache has the output of this very input, "
        "which run p produced 2 h 05 m earlier.",
    )
    gone = {**SKIPPED, "output_source": source, "source_run_id": None}
    assert "a run that is no longer retained produced earlier" in told(step=gone)[0]


def test_joined() -> None:
    """A follower names whose output it uses."""
    assert told(step={**SKIPPED, "output_source": OutputSource.JOINED}) == (
        "mix joined the identical step of run p, which was under way, and uses its output.",
    )


def test_waiting() -> None:
    """A pending step names what it waits for, a ready one the queue, its backoff or the step it follows."""
    needs = [Dependency(step_id=StepId(f"s{n}"), status=StepStatus.RUNNING) for n in range(12)]
    assert told(step={"status": StepStatus.PENDING}, dependencies=needs)[0] == (
        "mix waits for s0 (running), s1 (running), s2 (running), s3 (running), s4 (running), s5 (running), "
        "s6 (running), s7 (running) and 4 more."
    )
    ready = {"status": StepStatus.READY, "ready_at": NOW}
    assert told(step=ready)[0] == (
        "mix has been ready since 2026-01-19 10:00:00Z and waits in the queue for an engine with a free slot."
    )
    backoff = {**ready, "next_attempt_at": NOW + timedelta(seconds=5)}
    assert told(step=backoff)[0] == "mix waits until 2026-01-19 10:00:05Z for attempt 2 of 3."
    follows = CacheDecision(outcome=CacheOutcome.JOINED, source_run_id=RunId("l"))
    assert told(step={**ready, "cache": follows})[0] == (
        "mix waits for the identical step of run l, which is under way, and will use its output."
    )


def test_running() -> None:
    """A running step says which attempt it is, how far its skill says it is, why it runs and what went wrong before."""
    tried = StepAttempt(
        attempt=1, started_at=NOW, ended_at=NOW + timedelta(seconds=2), error=Failure(code="X", message="no\nway")
    )
    sentences = told(
        step={
            "status": StepStatus.RUNNING,
            "attempt": 2,
            "started_at": NOW,
            "progress": StepProgress(fraction=0.5, message="half", reported_at=NOW),
            "attempts": (tried,),
            "lease_losses": 2,
        }
    )
    assert sentences == (
        "mix is running since 2026-01-19 10:00:00Z: attempt 2 of 3.",
        "Its skill reports 50%: half.",
        "It is executed because the run is an initial one, with no base run to build on.",
        "Attempt 1 failed after 2.0 s with X: no way.",
        "The engine that ran it was lost 2 times; that does not count as an attempt.",
    )


def test_held() -> None:
    """An attempt that waits for a slot of its skill says so."""
    assert told(step={"status": StepStatus.RUNNING}, is_held=True)[0] == (
        "mix waits for a free slot of its skill s: attempt 1 of 3."
    )


def test_failed() -> None:
    """A failure comes with its code and message, and says why it was not tried again."""
    failed = {"status": StepStatus.FAILED, "attempt": 1, "error": Failure(code="SKILL_FAILED", message="bad input.")}
    assert told(step=failed)[:2] == (
        "mix failed at attempt 1 of 3 with SKILL_FAILED: bad input.",
        "It was not tried again: trying again cannot help.",
    )
    assert told(step={**failed, "attempt": 3})[1].startswith("It was executed because")
    selector = {**failed, "attempt": 0, "error": Failure(code="INPUT_SELECTOR_FAILED", message="step mix: /a: no")}
    assert told(step=selector) == (
        "mix failed before its skill was called with INPUT_SELECTOR_FAILED: step mix: /a: no.",
    )


def test_cancelled() -> None:
    """A cancelled step says whether its run, another step or the deadline ended it."""
    cancelled = {"status": StepStatus.CANCELLED, "attempt": 0, "error": Failure(code="RUN_CANCELLED", message="")}
    assert told(step=cancelled) == ("mix was cancelled with its run.",)
    assert told(step=cancelled, run=replace(RUN, cancel_reason="wrong\nbrief")) == (
        "mix was cancelled with its run: wrong brief.",
    )
    late = replace(RUN, error=Failure(code="RUN_DEADLINE_EXCEEDED", message=""))
    assert told(step=cancelled, run=late) == ("mix was cancelled because the deadline of the run passed.",)
    upstream = {**cancelled, "attempt": 1, "error": Failure(code="UPSTREAM_FAILED", message="")}
    assert told(step=upstream, run=replace(RUN, failed_step=StepId("art"))) == (
        "mix was cancelled because art of the run failed.",
        "It had begun attempt 1 of 3.",
    )


def test_texts_of_others_are_bounded() -> None:
    """A failure's message and a cancel's reason are put on one line and cut off."""
    failed = {"status": StepStatus.FAILED, "attempt": 3, "error": Failure(code="X", message="long " * 500)}
    assert len(told(step=failed)[0]) < 400
