"""HTTP/JSON offers what gRPC offers, in the shape the quickstart shows, and refuses with the same reasons."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_client.pb.runengine.v1 import run_pb2
from runengine_client.workflow import format_workflow

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.refusals import RawApi, refusal
from ..support.skill_server_process import SkillServerProcess
from .workflows import demo, gated, single

NOWHERE = "00000000-0000-4000-8000-000000000000"
BRIEF = {"brief": {"style": "energetic"}}
SUMMARY = {"total": 4, "pending": 0, "running": 0, "completed": 4, "skipped": 0, "failed": 0, "cancelled": 0}


@pytest.fixture(scope="module")
def http(engine: EngineProcess) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{engine.http_url}/api/v1", headers={"authorization": f"Bearer {TOKENS.admin}"}, timeout=20
    ) as client:
        for workflow in (demo(), gated(), single("large", skill="t.big")):
            answer = client.post(
                "/workflows", content=format_workflow(workflow), headers={"content-type": "application/yaml"}
            )
            assert answer.status_code == 201, answer.text
        yield client


def wait_ended(http: httpx.Client, run_id: str) -> dict[str, Any]:
    """The run, once its event stream says that it ended."""
    with http.stream("GET", f"/runs/{run_id}/events") as stream:
        assert any(line == "event: end" for line in stream.iter_lines())
    run: dict[str, Any] = http.get(f"/runs/{run_id}").json()
    return run


@pytest.fixture(scope="module")
def finished(http: httpx.Client) -> str:
    """A completed run of `demo`."""
    answer = http.post("/runs", json={"workflowName": "demo", "triggerPayload": BRIEF, "labels": {"team": "red"}})
    run_id: str = answer.json()["runId"]
    assert wait_ended(http, run_id)["status"] == "completed"
    return run_id


def test_trigger_answers_as_the_quickstart(http: httpx.Client) -> None:
    """Trigger answers 202 with exactly run id, status and message; the run has every documented field."""
    answer = http.post("/runs", json={"workflowName": "demo", "triggerPayload": BRIEF})
    assert answer.status_code == 202
    body = answer.json()
    assert body == {"runId": body["runId"], "status": "queued", "message": "Run queued for execution"}
    run = wait_ended(http, body["runId"])
    assert run["id"] == body["runId"]
    assert (run["workflowName"], run["status"], run["triggerType"]) == ("demo", "completed", "initial")
    assert run["stepsSummary"] == SUMMARY
    assert run["startedAt"].endswith("Z")
    assert "error" not in run


def test_update_says_how_many_steps(http: httpx.Client, finished: str) -> None:
    """An update answers with the seed's message, and reuses what its change does not touch."""
    change = {"changeRequest": {"type": "music.update", "payload": {"style": "epic"}}}
    answer = http.post(f"/runs/{finished}/update", json=change)
    assert (answer.status_code, answer.json()["message"]) == (202, "Update run queued - 2 steps will be re-executed")
    run = wait_ended(http, answer.json()["runId"])
    assert (run["triggerType"], run["baseRunId"]) == ("update", finished)
    full = http.get(f"/runs/{run['id']}", params={"view": "full"}).json()
    assert full["changeRequest"] == {"type": "music.update", "payload": {"style": "epic"}}
    assert (run["stepsSummary"]["completed"], run["stepsSummary"]["skipped"]) == (2, 2)
    steps = {step["stepId"]: step for step in http.get(f"/runs/{run['id']}/steps").json()["steps"]}
    assert (steps["plan"]["status"], steps["plan"]["outputSource"]) == ("skipped", "base_run")
    assert (steps["mix"]["status"], steps["mix"]["attempt"]) == ("completed", 1)
    text = http.get(f"/runs/{run['id']}/steps/music/explain").json()["text"]
    assert any("style" in sentence for sentence in text), text
    compared = http.get(f"/runs/{finished}/compare", params={"with": run["id"]}).json()
    assert compared["rootCauseStepIds"] == ["music"]


def test_plan_on_request(http: httpx.Client, finished: str) -> None:
    """`validateOnly` answers 200 with the plan and starts nothing; `includePlan` starts and shows it, too."""
    change: dict[str, Any] = {"changeRequest": {"type": "music.update", "payload": {"style": "sad"}}}
    before = len(http.get("/runs").json()["runs"])
    answer = http.post(f"/runs/{finished}/update", json=change | {"validateOnly": True})
    assert answer.status_code == 200
    plan = answer.json()["plan"]
    assert "runId" not in answer.json()
    assert (plan["reuseCount"], plan["executeCount"] + plan["unknownCount"]) == (2, 2)
    assert {step["stepId"]: step["action"] for step in plan["steps"]}["plan"] == "reuse"
    assert len(http.get("/runs").json()["runs"]) == before
    bound = change | {"expectedPlanDigest": plan["digest"], "includePlan": True}
    answer = http.post(f"/runs/{finished}/update", json=bound)
    assert (answer.status_code, answer.json()["plan"]["digest"]) == (202, plan["digest"])
    wait_ended(http, answer.json()["runId"])


@pytest.mark.parametrize("query", ["validateOnly=true", "includePlan=yes", "requestId=a"])
def test_queries_that_say_nothing(http: httpx.Client, query: str) -> None:
    """What stands in the query in place of the body is refused: the run that nobody wanted does not start."""
    before = http.get("/runs").json()["runs"]
    answer = http.post(f"/runs?{query}", json={"workflowName": "demo", "triggerPayload": BRIEF})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_FAILED")
    [violation] = answer.json()["error"]["details"]["violations"]
    assert violation["field"] == query.partition("=")[0]
    assert http.get("/runs").json()["runs"] == before
    for other in ("/workflows?validateonly=true", "/workflows?validateOnly=yes", "/runs/x/cancel?reason=a"):
        assert http.post(other, json={}).json()["error"]["code"] == "VALIDATION_FAILED", other


def test_cancel_and_retry_without_body(http: httpx.Client, skills: SkillServerProcess) -> None:
    """Cancel and retry need no body; a cancelled run can be retried."""
    started = http.post("/runs", json={"workflowName": "gated", "triggerPayload": {"gate": "later"}}).json()
    skills.wait_for_call(started["runId"], "wait")
    answer = http.post(f"/runs/{started['runId']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert http.post(f"/runs/{started['runId']}/cancel").json()["status"] == "cancelled"
    skills.open_gate("later")
    retried = http.post(f"/runs/{started['runId']}/retry").json()
    assert retried["message"] == "Retry run queued - 2 steps will be executed"
    assert wait_ended(http, retried["runId"])["status"] == "completed"


def test_lists_filter_and_page(http: httpx.Client, finished: str) -> None:
    """Runs are listed by status, workflow, label and time, in pages; an empty list is a list."""
    page = http.get("/runs", params={"statuses": "completed", "workflowName": "demo", "pageSize": 1}).json()
    assert len(page["runs"]) == 1
    second = http.get(
        "/runs",
        params={"statuses": "completed", "workflowName": "demo", "pageSize": 1, "pageToken": page["nextPageToken"]},
    )
    assert second.json()["runs"][0]["id"] != page["runs"][0]["id"]
    assert [run["id"] for run in http.get("/runs", params={"labels": "team=red"}).json()["runs"]] == [finished]
    assert http.get("/runs", params={"createdAfter": "2100-01-01T00:00:00Z"}).json() == {"runs": []}


def test_workflow_is_what_was_registered(http: httpx.Client) -> None:
    """A workflow is read as the document that was sent, with digest and time; the same again is no conflict."""
    document = http.get("/workflows/demo").json()
    digest = document.pop("digest")
    assert document.pop("createdAt").endswith("Z")
    again = http.post("/workflows", json=document)
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert again.json()["workflow"]["digest"] == digest
    dry = http.post("/workflows?validateOnly=true", json=document | {"version": "1.0.1"})
    assert (dry.status_code, dry.json()["created"]) == (200, False)
    assert http.get("/workflows/demo?version=1.0.1").status_code == 404
    assert [each["workflowName"] for each in http.get("/workflows").json()["workflows"]] == ["demo", "gated", "large"]


def test_full_view_keeps_numbers(http: httpx.Client) -> None:
    """Payloads come back as they were sent: integers as integers, null as null, text unchanged."""
    payload = {"brief": {"style": "ä€😀", "n": 2**53 - 1, "x": 0.1, "none": None, "list": [1, True, {"a": []}]}}
    run_id = http.post("/runs", json={"workflowName": "demo", "triggerPayload": payload}).json()["runId"]
    wait_ended(http, run_id)
    assert http.get(f"/runs/{run_id}", params={"view": "full"}).json()["triggerPayload"] == payload
    step = http.get(f"/runs/{run_id}/steps", params={"view": "full"}).json()["steps"][0]
    assert step["output"] == payload


def test_cache_is_reachable(http: httpx.Client, finished: str) -> None:
    """Cache entries are listed, read and invalidated over HTTP."""
    entries = http.get("/cache/entries", params={"workflowName": "demo", "stepId": "plan"}).json()["entries"]
    key = entries[0]["key"]
    assert key.startswith("demo:plan:")
    assert http.get(f"/cache/entries/{key}", params={"includeOutput": "true"}).json()["entry"]["output"]
    dry = http.post("/cache/invalidate", json={"selector": {"key": key}, "validateOnly": True, "reason": "test"}).json()
    assert (dry["invalidatedCount"], dry["sampleKeys"]) == (1, [key])
    assert http.get("/cache/stats").json()["stats"]


BAD_REQUESTS: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/runs", {"workflowName": "nope"}, 404, "WORKFLOW_NOT_FOUND"),
    ("POST", "/runs", {"workflowname": "demo"}, 400, "VALIDATION_FAILED"),
    ("POST", "/runs", {"workflowName": "demo", "priority": "high"}, 400, "VALIDATION_FAILED"),
    ("POST", "/runs", {"workflowName": "demo", "priority": 2**40}, 400, "VALIDATION_FAILED"),
    ("POST", "/runs", {"workflowName": "demo", "triggerPayload": []}, 400, "VALIDATION_FAILED"),
    ("POST", "/runs", {"workflowName": "demo", "deadlineMs": -1, "triggerPayload": BRIEF}, 400, "VALIDATION_FAILED"),
    ("POST", "/runs", {"workflowName": "demo", "triggerPayload": {}}, 400, "PAYLOAD_SCHEMA_MISMATCH"),
    ("POST", "/runs", {"workflowName": "demo", "includePlan": 1}, 400, "VALIDATION_FAILED"),
    ("POST", f"/runs/{NOWHERE}/cancel", None, 404, "RUN_NOT_FOUND"),
    ("POST", f"/runs/{NOWHERE}/update", {}, 400, "VALIDATION_FAILED"),
    ("GET", f"/runs/{NOWHERE}", None, 404, "RUN_NOT_FOUND"),
    ("GET", "/runs/%00", None, 400, "VALIDATION_FAILED"),
    ("GET", "/runs?pageToken=x", None, 400, "PAGE_TOKEN_INVALID"),
    ("GET", "/runs?statuses=done", None, 400, "VALIDATION_FAILED"),
    ("GET", "/runs?pageSize=many", None, 400, "VALIDATION_FAILED"),
    ("GET", "/runs?unknown=1", None, 400, "VALIDATION_FAILED"),
    ("GET", f"/runs/{NOWHERE}/events", None, 404, "RUN_NOT_FOUND"),
    ("GET", f"/runs/{NOWHERE}/compare", None, 400, "VALIDATION_FAILED"),
    ("POST", "/workflows", {"workflowName": "demo"}, 400, "WORKFLOW_INVALID"),
    ("GET", "/nothing", None, 404, "PATH_NOT_FOUND"),
    ("DELETE", "/runs", None, 405, "METHOD_NOT_ALLOWED"),
]


@pytest.mark.parametrize(("verb", "path", "body", "status", "code"), BAD_REQUESTS)
def test_refusals(http: httpx.Client, verb: str, path: str, body: Any, status: int, code: str) -> None:
    """A request that cannot work gets a status, a stable code and a sentence, in one shape everywhere."""
    answer = http.request(verb, path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["status"], error["code"]) == (status, status, code), error
    assert error["message"]


def test_everything_wrong_is_said_at_once(http: httpx.Client) -> None:
    """Each wrong member is named with what to write instead."""
    answer = http.post(
        "/runs", json={"workflowname": "x", "cacheMode": "fresh", "forceStepIds": "a", "labels": {"a": 1}}
    )
    violations = {each["field"]: each["description"] for each in answer.json()["error"]["details"]["violations"]}
    assert "workflowName" in violations["workflowname"]
    assert "refresh" in violations["cacheMode"]
    assert {"forceStepIds", "labels.a"} <= violations.keys()


def test_fields_are_named_as_they_were_written(http: httpx.Client, finished: str) -> None:
    """What this surface spells otherwise than the contract is refused, in violation and message, by its name here."""
    update = {"changeRequest": {"type": "music.update"}, "deadlineMs": 0}
    other = http.post("/runs", json={"workflowName": "gated", "triggerPayload": {"gate": "never"}}).json()["runId"]
    for field, answer in (
        ("deadlineMs", http.post("/runs", json={"workflowName": "demo", "triggerPayload": BRIEF, "deadlineMs": -1})),
        ("deadlineMs", http.post(f"/runs/{finished}/update", json=update)),
        ("ttlMs", http.post(f"/runs/{finished}/watch-token", json={"ttlMs": 1})),
        ("with", http.get(f"/runs/{finished}/compare", params={"with": other})),
        ("with", http.get(f"/runs/{finished}/compare?with=%00")),
    ):
        error = answer.json()["error"]
        assert [each["field"] for each in error["details"]["violations"]] == [field], error
        assert field in error["message"].replace(":", "").split(), error
    http.post(f"/runs/{other}/cancel")


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b'{"workflowName": "demo", "workflowName": "x"}', "application/json", 400, "VALIDATION_FAILED"),
        (b'{"workflowName": ', "application/json", 400, "VALIDATION_FAILED"),
        (b"[1]", "application/json", 400, "VALIDATION_FAILED"),
        (b'{"triggerPayload": {"n": 9007199254740993}}', "application/json", 400, "VALIDATION_FAILED"),
        (b'{"triggerPayload": {"n": NaN}}', "application/json", 400, "VALIDATION_FAILED"),
        (b"workflowName=demo", "application/x-www-form-urlencoded", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "application/json", 429, "PAYLOAD_TOO_LARGE"),
        (json.dumps({"triggerPayload": {"x": "x" * 2_000_000}}).encode(), "application/json", 429, "PAYLOAD_TOO_LARGE"),
        (b'{"a": "' + b"x" * 4_000_000 + b'"}', "application/json", 429, "PAYLOAD_TOO_LARGE"),
    ],
    ids=["duplicate", "cut", "list", "inexact", "nan", "form", "deep", "large-payload", "large-body"],
)
def test_bodies_that_cannot_be_read(
    http: httpx.Client, content: bytes, media_type: str, status: int, code: str
) -> None:
    """What two readers could understand differently, or is too much, is refused before anything happens."""
    answer = http.post("/runs", content=content, headers={"content-type": media_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "TOKEN_MISSING"),
        ({"authorization": "Bearer wrong"}, 401, "TOKEN_INVALID"),
        ({"authorization": "Basic YTpi"}, 401, "TOKEN_MISSING"),
        ({"authorization": f"Bearer {TOKENS.reader}"}, 403, "SCOPE_REQUIRED"),
    ],
    ids=["none", "wrong", "basic", "reader"],
)
def test_credentials(engine: EngineProcess, headers: dict[str, str], status: int, code: str) -> None:
    """Without a token that allows it nothing is done, and nothing of the body is looked at."""
    answer = httpx.post(f"{engine.http_url}/api/v1/runs", content=b"{broken", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_other_tenants_runs_do_not_exist(engine: EngineProcess, http: httpx.Client, finished: str) -> None:
    """A foreign run is RUN_NOT_FOUND on every path about it."""
    stranger = {"authorization": f"Bearer {TOKENS.stranger}"}
    for path in ("", "/steps", "/artifacts", "/events", "/steps/plan/explain", f"/compare?with={finished}"):
        answer = httpx.get(f"{engine.http_url}/api/v1/runs/{finished}{path}", headers=stranger)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "RUN_NOT_FOUND"), path


def test_same_reason_as_grpc(http: httpx.Client, raw: RawApi, finished: str) -> None:
    """The same bad request has the same reason, message and violations over HTTP and gRPC."""
    wrong = pb.TriggerRequest(workflow_name="demo", priority=10, labels={"": "x"})
    over_grpc = refusal(raw.engine.Trigger, wrong, TOKENS.admin)
    over_http = http.post("/runs", json={"workflowName": "demo", "priority": 10, "labels": {"": "x"}}).json()["error"]
    assert (over_http["code"], over_http["message"]) == (over_grpc.reason, over_grpc.message)
    assert {each["field"] for each in over_http["details"]["violations"]} == set(over_grpc.violations)
    inexact = pb.TriggerRequest(workflow_name="demo")
    inexact.trigger_payload.update({"sizes": [1, 2.0**60]})
    over_grpc = refusal(raw.engine.Trigger, inexact, TOKENS.admin)
    body = {"workflowName": "demo", "triggerPayload": {"sizes": [1, 2**60]}}
    over_http = http.post("/runs", json=body).json()["error"]
    assert {each["field"] for each in over_http["details"]["violations"]} == set(over_grpc.violations)
    change = run_pb2.ChangeRequest(type="nope")
    over_grpc = refusal(
        raw.engine.TriggerUpdate, pb.TriggerUpdateRequest(base_run_id=finished, change_request=change), TOKENS.admin
    )
    over_http = http.post(f"/runs/{finished}/update", json={"changeRequest": {"type": "nope"}}).json()["error"]
    assert (over_http["code"], over_http["message"]) == (over_grpc.reason, over_grpc.message)


def test_pages_of_listed_origins_may_call(engine_settings: EngineSettings) -> None:
    """A browser may call from the origins that are configured, and from no other."""
    with EngineProcess(engine_settings, "cors", RUNENGINE_CORS_ORIGINS="https://app.example") as engine:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        url = f"{engine.http_url}/api/v1/runs"
        allowed = httpx.options(url, headers={"origin": "https://app.example"} | asked)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        refused = httpx.options(url, headers={"origin": "https://evil.example"} | asked)
        assert "access-control-allow-origin" not in refused.headers
