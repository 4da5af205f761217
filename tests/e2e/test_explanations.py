"""Explanations, comparisons and lineages of runs that a real engine has executed, by client and command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runengine_client import RunEngineClient
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.states import MissReason, OutputSource
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.engine_process import TOKENS, EngineProcess

pytestmark = pytest.mark.anyio


def story() -> workflow_pb2.Workflow:
    """text (a file) -> styled -> cover (a file); same gives the same whatever it gets, and after reads it."""
    return (
        WorkflowBuilder("story", version="1.0.0")
        .step("text", skill="t.publish", input={"text": expression("trigger.text"), "filename": "text.txt"})
        .step(
            "styled",
            skill="t.echo",
            needs=["text"],
            input={"style": expression("trigger.style"), "of": expression("steps.text.output.contentHash")},
        )
        .step(
            "cover",
            skill="t.publish",
            needs=["styled"],
            input={"text": expression("steps.styled.output.style"), "filename": "cover.txt"},
        )
        .step("same", skill="t.flaky", input={"failures": 0, "style": expression("trigger.style")})
        .step("after", skill="t.echo", needs=["same"], input={"n": expression("steps.same.output.attempt")})
        .change("style.update", seeds=["styled", "same"])
        .build()
    )


async def test_an_update_explained(client: RunEngineClient, engine: EngineProcess) -> None:
    """An update's steps say what changed and what did not; the comparison finds the causes, the lineage the sources."""
    await client.register_workflow(story())
    base = await (await client.start("story", {"text": "once", "style": "calm"})).result()
    update = await (await client.start_update(base.id, "style.update", {"style": "epic"})).result()

    told = {step: (await client.explain_step(update.id, step)) for step in ("text", "styled", "cover", "same", "after")}
    assert told["text"].text == (
        f"text was reused from base run {base.id}: the change request style.update does not reach it.",
    )
    assert told["styled"].text[:3] == (
        'styled was executed because its input changed at /style: "calm" -> "epic", '
        "which comes from the change request at /style.",
        "Also, the change request style.update names it.",
        "Cache miss: the cache holds outputs of this step, but none of this input.",
    )
    cache = told["styled"].step.cache
    assert cache is not None and cache.miss_reason is MissReason.INPUT_CHANGED
    assert (cache.nearest_run_id, cache.changed_pointers) == (base.id, ("/style",))
    assert told["cover"].text[0] == (
        'cover was executed because its input changed at /text: "calm" -> "epic", '
        "which comes from the output of styled."
    )
    assert told["after"].step.output_source is OutputSource.BASE_RUN
    assert told["after"].text[:2] == (
        f"after was reused from base run {base.id}: its input is the same as there.",
        "same executed again and gave the same output as before (early cutoff).",
    )
    full = {step.step_id: step async for step in client.list_steps(update.id, full=True)}
    assert full["styled"].cache == cache

    comparison = await client.compare_runs(base.id, update.id)
    assert comparison.root_cause_step_ids == ("styled", "same")
    changed = {diff.step_id for diff in comparison.steps if diff.output_changed}
    assert changed == {"styled", "cover"}

    (cover,) = [artifact async for artifact in client.list_artifacts(update.id, step_id="cover")]
    lineage = await client.get_lineage(cover.id)
    assert [(artifact.filename, artifact.run_id) for artifact in lineage.artifacts] == [
        ("cover.txt", update.id),
        ("text.txt", base.id),
    ]
    (edge,) = lineage.edges
    assert (edge.to_artifact_id, edge.step_id) == (cover.id, "cover")

    assert command(engine, "explain", update.id, "styled").splitlines()[0] == told["styled"].text[0]
    compared = command(engine, "compare", base.id, update.id)
    assert compared.endswith("2 steps are the same\n")
    assert json.loads(command(engine, "lineage", cover.id, "-o", "json"))["edges"][0]["stepId"] == "cover"


async def test_a_second_build_explained(client: RunEngineClient) -> None:
    """What the cache gave says so with the run it came from; every step of a run has something to say."""
    await client.register_workflow(story())
    payload = {"text": "twice", "style": "calm"}
    first = await (await client.start("story", payload)).result()
    second = await (await client.start("story", payload)).result()
    for run in (first, second):
        async for step in client.list_steps(run.id):
            text = (await client.explain_step(run.id, step.step_id)).text
            assert text[0].startswith(f"{step.step_id} was ")
    text = (await client.explain_step(second.id, "styled")).text[0]
    assert text.startswith("styled was not executed: the ")
    assert f"cache has the output of this very input, which run {first.id} produced " in text
    cached = [step.cache async for step in client.list_steps(second.id)]
    assert all(decision is not None and decision.age is not None for decision in cached)
    assert (await client.compare_runs(first.id, second.id)).root_cause_step_ids == ()
    assert second.savings.skipped_steps == 5


def command(engine: EngineProcess, *arguments: str) -> str:
    """What the command prints."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("runengine")), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={"RUNENGINE_TARGET": engine.target, "RUNENGINE_TOKEN": TOKENS.admin, "PATH": ""},
    ).stdout
