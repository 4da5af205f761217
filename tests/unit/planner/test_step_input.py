"""What an input selector sees of a run: payload, change, run and the results of earlier steps, and nothing else."""

import json

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.canonical_json import content_hash
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import SkillId, StepId, StepNo
from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.planner.compiled import compile_workflow
from runengine_server.planner.step_input import RunScope, StepInput, StepValue, change_value, resolve_input

RUN: JsonObject = {"id": "r1", "workflowName": "demo"}
ARTIFACT = ProducedArtifact(
    media_type="audio/wav",
    uri="file:///bgm.wav",
    content_hash="a" * 64,
    size_bytes=3,
    filename="bgm.wav",
    metadata={"bpm": 120},
    made_from=("b" * 64,),
)


def resolved(
    selector: JsonObject, *, trigger: JsonObject | None = None, change: ChangeRequest | None = None
) -> StepInput | Failure:
    first = StepDefinition(step_id=StepId("music"), skill_id=SkillId("t.x"))
    second = StepDefinition(
        step_id=StepId("mix"), skill_id=SkillId("t.x"), depends_on=(StepId("music"),), input_selector=selector
    )
    compiled = compile_workflow(Workflow(name="demo", version="1.0.0", steps=(first, second)))
    value = StepValue({"bars": 8}, (ARTIFACT.as_selector_value(),))
    scope = RunScope(trigger=trigger or {}, change=change_value(change), run=RUN, value_of=lambda _: value)
    return resolve_input(compiled, StepNo(1), scope)


def value_of(expression: str, *, trigger: JsonObject | None = None, change: ChangeRequest | None = None) -> JsonValue:
    found = resolved({"v": f"${{{{ {expression} }}}}"}, trigger=trigger, change=change)
    assert isinstance(found, StepInput), found
    value: JsonValue = json.loads(found.body)["v"]
    return value


def test_an_initial_run_has_no_change() -> None:
    """`change` is null and `trigger` the payload, an empty object without one."""
    assert value_of("change") is None
    assert value_of("trigger") == {}
    assert value_of("trigger", trigger={"style": "calm"}) == {"style": "calm"}


def test_an_update_shows_its_request_as_it_came() -> None:
    """`change` is the type and the raw payload, nulls included, beside the effective payload in `trigger`."""
    change = ChangeRequest(type="audio.update", payload={"style": "epic", "volume": None})
    assert value_of("change", change=change) == {"type": "audio.update", "payload": {"style": "epic", "volume": None}}
    assert value_of("trigger", trigger={"style": "epic"}, change=change) == {"style": "epic"}


def test_a_run_is_its_id_and_workflow() -> None:
    """Nothing of a run that differs between equal runs is visible but its id."""
    assert value_of("run") == {"id": "r1", "workflowName": "demo"}


def test_artifacts_show_what_is_equal_for_equal_content() -> None:
    """An artifact is its type, URI, hash, size, name and metadata: neither its id nor what it was made from."""
    assert value_of("steps.music.output") == {"bars": 8}
    assert value_of("steps.music.artifacts") == [
        {
            "type": "audio/wav",
            "uri": "file:///bgm.wav",
            "contentHash": "a" * 64,
            "sizeBytes": 3,
            "filename": "bgm.wav",
            "metadata": {"bpm": 120},
        }
    ]


def test_the_hash_is_that_of_the_canonical_bytes() -> None:
    """What is hashed is the RFC 8785 form of the input: members sorted, integral numbers without a point."""
    found = resolved({"z": 1.0, "a": "${{ trigger.n }}"}, trigger={"n": 2})
    assert found == StepInput(b'{"a":2,"z":1}', content_hash(b'{"a":2,"z":1}'))


def test_a_missing_path_names_step_pointer_and_expression() -> None:
    """INPUT_SELECTOR_FAILED says where to look, for a person and for a program; it is not retried."""
    failure = resolved({"deep": [{"style": "${{ trigger.brief.style }}"}]})
    assert isinstance(failure, Failure)
    assert (failure.code, failure.retryable, failure.step_id) == ("INPUT_SELECTOR_FAILED", False, "mix")
    assert failure.details == {"stepId": "mix", "pointer": "/deep/0/style", "expression": "trigger.brief.style"}
    assert all(part in failure.message for part in ("mix", "/deep/0/style", "trigger.brief.style"))
