"""What the scripted server answers: one run of a demo workflow, its plan, its events, and questions about it."""

from runengine_client.pb.runengine.v1 import event_pb2, run_engine_pb2, run_pb2

RUN_ID = "550e8400-e29b-41d4-a716-446655440000"
STEP_IDS = ("plan", "image", "music", "mix")
LEVELS = {"plan": 0, "image": 1, "music": 1, "mix": 2}


def finished_run(status: int = run_pb2.RUN_STATUS_COMPLETED) -> run_pb2.Run:
    """A run of the demo workflow that has ended."""
    run = run_pb2.Run(
        id=RUN_ID,
        workflow_name="demo",
        workflow_version="1.0.0",
        status=status,
        trigger_type=run_pb2.TRIGGER_TYPE_INITIAL,
        steps_summary=run_pb2.StepsSummary(total=4, completed=3, skipped=1),
        last_sequence=12,
    )
    run.created_at.FromJsonString("2026-01-19T10:00:00Z")
    run.started_at.FromJsonString("2026-01-19T10:00:01Z")
    run.completed_at.FromJsonString("2026-01-19T10:00:08Z")
    run.trigger_payload.update({"brief": {"style": "energetic", "count": 3}})
    if status == run_pb2.RUN_STATUS_FAILED:
        run.error.code, run.error.message, run.error.step_id = "SKILL_TIMEOUT", "took too long", "mix"
        run.failed_step = "mix"
    return run


def step_message(step_id: str, status: int = run_pb2.STEP_STATUS_COMPLETED) -> run_pb2.Step:
    """A step of the demo workflow."""
    return run_pb2.Step(
        run_id=RUN_ID,
        step_id=step_id,
        skill_id=f"demo.{step_id}",
        status=status,
        level=LEVELS[step_id],
        attempt=1 if status == run_pb2.STEP_STATUS_COMPLETED else 0,
        max_attempts=3,
        duration_ms=5234 if status == run_pb2.STEP_STATUS_COMPLETED else 0,
        output_source=run_pb2.OUTPUT_SOURCE_EXECUTED if status == run_pb2.STEP_STATUS_COMPLETED else 0,
    )


def plan_message() -> run_pb2.RebuildPlan:
    """A plan of the demo workflow."""
    plan = run_pb2.RebuildPlan(execute_count=2, reuse_count=2, digest="abc123", seed_step_ids=["music"])
    plan.steps.add(step_id="plan", action=run_pb2.PLAN_ACTION_REUSE, reason=run_pb2.PLAN_REASON_UNAFFECTED)
    plan.steps.add(step_id="image", action=run_pb2.PLAN_ACTION_REUSE, reason=run_pb2.PLAN_REASON_UNAFFECTED)
    plan.steps.add(step_id="music", action=run_pb2.PLAN_ACTION_EXECUTE, reason=run_pb2.PLAN_REASON_SEED)
    plan.steps.add(
        step_id="mix", action=run_pb2.PLAN_ACTION_EXECUTE, reason=run_pb2.PLAN_REASON_DOWNSTREAM, caused_by=["music"]
    )
    return plan


def event_log() -> list[event_pb2.RunEvent]:
    """The demo run's events, 1 … 13: one step is reused, two run in parallel, one publishes an artifact."""
    log: list[event_pb2.RunEvent] = []

    def add(**detail) -> None:
        event = event_pb2.RunEvent(sequence=len(log) + 1, **detail)
        event.occurred_at.FromJsonString(f"2026-01-19T10:00:{len(log):02d}Z")
        log.append(event)

    def run_status(to: int) -> None:
        add(type=event_pb2.RUN_EVENT_TYPE_RUN_STATUS, run=event_pb2.RunStatusChanged(to_status=to))

    def step_status(step_id: str, before: int, to: int, **more) -> None:
        change = event_pb2.StepStatusChanged(from_status=before, to_status=to, **more)
        add(type=event_pb2.RUN_EVENT_TYPE_STEP_STATUS, step_id=step_id, attempt=1, step=change)

    hit = run_pb2.CacheDecision(outcome=run_pb2.CACHE_OUTCOME_HIT, tier=run_pb2.CACHE_TIER_HOT)
    miss = run_pb2.CacheDecision(
        outcome=run_pb2.CACHE_OUTCOME_MISS,
        miss_reason=run_pb2.MISS_REASON_INPUT_CHANGED,
        changed_pointers=["/style"],
    )
    run_status(run_pb2.RUN_STATUS_QUEUED)
    run_status(run_pb2.RUN_STATUS_RUNNING)
    step_status("plan", 2, 5, output_source=run_pb2.OUTPUT_SOURCE_CACHE_HOT, cache=hit)
    step_status("image", 1, 2)
    step_status("music", 1, 2)
    step_status("image", 2, 3)
    step_status("music", 2, 3, cache=miss)
    step_status("image", 3, 4, duration_ms=1200, output_source=run_pb2.OUTPUT_SOURCE_EXECUTED)
    artifact = run_pb2.Artifact(id="a-1", run_id=RUN_ID, step_id="music", type="audio/mpeg", uri="file:///bgm.mp3")
    add(type=event_pb2.RUN_EVENT_TYPE_ARTIFACT, step_id="music", artifact=artifact)
    step_status("music", 3, 4, duration_ms=5234, output_source=run_pb2.OUTPUT_SOURCE_EXECUTED)
    step_status("mix", 1, 3)
    step_status("mix", 3, 4, duration_ms=800, output_source=run_pb2.OUTPUT_SOURCE_EXECUTED)
    run_status(run_pb2.RUN_STATUS_COMPLETED)
    return log


def comparison_message() -> run_engine_pb2.CompareRunsResponse:
    """A step that is the same, one that differs on its own account, and one that only the right run has."""
    reused = step_message("plan", run_pb2.STEP_STATUS_SKIPPED)
    reused.output_source = run_pb2.OUTPUT_SOURCE_BASE_RUN
    return run_engine_pb2.CompareRunsResponse(
        steps=[
            run_engine_pb2.StepDiff(step_id="plan", left=step_message("plan"), right=reused),
            run_engine_pb2.StepDiff(
                step_id="music",
                left=step_message("music"),
                right=step_message("music"),
                input_pointers=["/style"],
                output_changed=True,
            ),
            run_engine_pb2.StepDiff(step_id="mix", right=step_message("mix"), output_changed=True),
        ],
        root_cause_step_ids=["music"],
    )


def lineage_message() -> run_engine_pb2.GetLineageResponse:
    """mix.wav, made from music.wav and plan.wav; music.wav, made from plan.wav."""
    made = [
        run_pb2.Artifact(
            id=f"a-{name}",
            run_id=RUN_ID,
            step_id=name,
            type="audio/wav",
            filename=f"{name}.wav",
            skill_id=f"audio.{name}",
            skill_version="2.1.0",
        )
        for name in ("mix", "music", "plan")
    ]
    pairs = [("a-music", "a-mix", "mix"), ("a-plan", "a-mix", "mix"), ("a-plan", "a-music", "music")]
    return run_engine_pb2.GetLineageResponse(
        nodes=[run_engine_pb2.LineageNode(artifact=artifact) for artifact in made],
        edges=[
            run_engine_pb2.LineageEdge(from_artifact_id=source, to_artifact_id=result, step_id=step_id)
            for source, result, step_id in pairs
        ],
    )
