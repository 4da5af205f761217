"""Server-sent events carry every event of a run once, in order, and go on behind the last one that was seen."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from runengine_client.workflow import document_of

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import wait_until
from ..support.server_sent_events import ServerSentEvent, read_events
from ..support.skill_server_process import SkillServerProcess
from .workflows import demo, gated

ADMIN = {"authorization": f"Bearer {TOKENS.admin}"}


@pytest.fixture(scope="module")
def http(engine: EngineProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{engine.http_url}/api/v1", headers=ADMIN, timeout=20) as client:
        for workflow in (demo(), gated()):
            assert client.post("/workflows", json=document_of(workflow)).status_code == 201
        yield client


def trigger(http: httpx.Client, workflow: str, **payload: Any) -> str:
    run_id: str = http.post("/runs", json={"workflowName": workflow, "triggerPayload": payload}).json()["runId"]
    return run_id


def follow(http: httpx.Client, run_id: str, last: str = "", **parameters: Any) -> list[ServerSentEvent]:
    """All events of a stream that ends."""
    headers = {"last-event-id": last} if last else {}
    with http.stream("GET", f"/runs/{run_id}/events", params=parameters, headers=headers) as stream:
        assert stream.status_code == 200, stream.read()
        assert stream.headers["content-type"].startswith("text/event-stream")
        return list(read_events(stream.iter_lines()))


def test_snapshot_then_every_event_then_end(http: httpx.Client, skills: SkillServerProcess) -> None:
    """A stream begins with a snapshot, has each later event once under its sequence, and says how the run ended."""
    run_id = trigger(http, "gated", gate="snapshot")
    skills.wait_for_call(run_id, "wait")
    with http.stream("GET", f"/runs/{run_id}/events") as stream:
        events = read_events(stream.iter_lines())
        snapshot = next(events)
        assert (snapshot.name, snapshot.data["run"]["status"]) == ("snapshot", "running")
        assert {step["stepId"] for step in snapshot.data["steps"]} == {"wait", "after"}
        skills.open_gate("snapshot")
        *between, end = events
    assert [int(event.id) for event in between] == list(range(int(snapshot.id) + 1, int(between[-1].id) + 1))
    assert [event.data["sequence"] for event in between] == [int(event.id) for event in between]
    assert (end.name, end.data["run"]["status"]) == ("end", "completed")
    completed = [event for event in between if event.name == "step_status"]
    assert completed[-1].data["step"]["toStatus"] == "completed"
    assert between[-1].data["run"]["stepsSummary"]["completed"] == 2


def test_resumes_behind_the_last_event(http: httpx.Client) -> None:
    """`Last-Event-ID`, or `afterSequence`, gives everything behind that event, whatever was seen before."""
    run_id = trigger(http, "demo", brief={"style": "resume"})
    all_events = [event for event in follow(http, run_id, afterSequence=0) if event.name != "bookmark"]
    ids = [event.id for event in all_events]
    assert ids[:-1] == [str(number) for number in range(1, len(ids))]
    for last in (1, 5, len(ids) - 1):
        resumed = [event.id for event in follow(http, run_id, str(last)) if event.name != "bookmark"]
        assert resumed == ids[last:], last
    assert [each.id for each in follow(http, run_id, "5", afterSequence=1) if each.name != "bookmark"] == ids[5:]


def test_a_page_that_saw_the_end_is_told_to_stop(http: httpx.Client) -> None:
    """A native EventSource asks again when a stream ends; 204 makes it stop."""
    run_id = trigger(http, "demo", brief={"style": "stop"})
    end = follow(http, run_id)[-1]
    answer = http.get(f"/runs/{run_id}/events", headers={"last-event-id": end.id})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_future_sequence_is_refused(http: httpx.Client) -> None:
    """Behind an event that does not exist there is nothing to go on from."""
    run_id = trigger(http, "demo", brief={"style": "future"})
    follow(http, run_id)
    answer = http.get(f"/runs/{run_id}/events", headers={"last-event-id": "4000"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (416, "SEQUENCE_IN_FUTURE")
    answer = http.get(f"/runs/{run_id}/events", headers={"last-event-id": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_FAILED")


def test_only_some_steps(http: httpx.Client) -> None:
    """`stepIds` leaves the events of other steps out."""
    run_id = trigger(http, "demo", brief={"style": "some"})
    events = follow(http, run_id, afterSequence=0, stepIds="plan,mix")
    assert {event.data.get("stepId", "") for event in events if event.name == "step_status"} == {"plan", "mix"}


def test_heartbeats_while_nothing_happens(http: httpx.Client, skills: SkillServerProcess) -> None:
    """A silent stream says from time to time that it lives."""
    run_id = trigger(http, "gated", gate="silent")
    skills.wait_for_call(run_id, "wait")
    with http.stream("GET", f"/runs/{run_id}/events", params={"heartbeatIntervalMs": 5000}) as stream:
        events = read_events(stream.iter_lines())
        assert next(events).name == "snapshot"
        bookmark = next(events)
        assert bookmark.name == "bookmark"
        assert bookmark.data["serverTime"].endswith("Z")
    http.post(f"/runs/{run_id}/cancel")


def test_streams_of_every_surface_share_their_limit(
    engine_settings: EngineSettings, http: httpx.Client, skills: SkillServerProcess
) -> None:
    """A watch over HTTP counts as one over gRPC does, and no more once its reader is gone."""
    run_id = trigger(http, "gated", gate="limit")
    skills.wait_for_call(run_id, "wait")
    with EngineProcess(engine_settings, "few", RUNENGINE_WATCHES_PER_TENANT_MAX="1") as engine:
        url = f"{engine.http_url}/api/v1/runs/{run_id}/events"
        with httpx.stream("GET", url, headers=ADMIN) as stream:
            events = read_events(stream.iter_lines())
            assert next(events).name == "snapshot"
            refused = httpx.get(url, headers=ADMIN)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "TOO_MANY_WATCHES")

        def is_free() -> bool:
            with httpx.stream("GET", url, headers=ADMIN) as stream:
                return stream.status_code == 200

        wait_until(is_free, what="the watch that nobody reads is counted no more")
    http.post(f"/runs/{run_id}/cancel")


def test_draining_ends_streams_with_a_reason(
    engine_settings: EngineSettings, http: httpx.Client, skills: SkillServerProcess
) -> None:
    """When a server stops, a stream says so and how far it came; another server goes on from there."""
    run_id = trigger(http, "gated", gate="drain")
    skills.wait_for_call(run_id, "wait")
    with (
        EngineProcess(engine_settings, "leaving") as engine,
        httpx.stream("GET", f"{engine.http_url}/api/v1/runs/{run_id}/events", headers=ADMIN, timeout=20) as stream,
    ):
        events = read_events(stream.iter_lines())
        snapshot = next(events)
        engine.terminate()
        error = next(events)
        assert (error.name, error.data["error"]["code"]) == ("error", "DRAINING")
        assert error.data["error"]["details"]["lastSequence"] == snapshot.id
        assert list(events) == []
    skills.open_gate("drain")
    rest = [event for event in follow(http, run_id, snapshot.id) if event.name != "bookmark"]
    assert int(rest[0].id) == int(snapshot.id) + 1
    assert rest[-1].name == "end"


def test_reader_that_hangs_up_is_let_go(http: httpx.Client, engine: EngineProcess, skills: SkillServerProcess) -> None:
    """A connection that is cut in the middle leaves nothing behind, and no error in the log."""
    run_id = trigger(http, "gated", gate="cut")
    skills.wait_for_call(run_id, "wait")
    host, port = engine.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        request = (
            f"GET /api/v1/runs/{run_id}/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKENS.admin}\r\n\r\n"
        )
        connection.sendall(request.encode())
        received = b""
        while b"snapshot" not in received:
            received += connection.recv(100_000)
    skills.open_gate("cut")
    assert follow(http, run_id)[-1].name == "end"
    assert "Internal error" not in engine.log
