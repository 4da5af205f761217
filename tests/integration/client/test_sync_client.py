"""The synchronous client does what the asynchronous one does, from ordinary threads."""

import threading

import pytest

from runengine_client import NotFoundError, RunEnded, RunEvent, RunNotCompletedError, SyncRunEngineClient
from runengine_client.pb.runengine.v1 import run_pb2

RUN_ID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def client(serving):
    with SyncRunEngineClient(serving.target) as made:
        yield made


def test_trigger_and_result(client, fake):
    """A run is started, followed and read without an event loop in sight."""
    handle = client.start("demo", {"a": 1}, priority=3)
    assert handle.id == RUN_ID
    assert handle.message == "Run queued for execution"
    assert handle.result().status == "completed"
    assert len(handle.steps()) == 4
    assert client.trigger_update(RUN_ID, "audio.update", {"audioStyle": "epic"})
    assert client.plan_update(RUN_ID, "audio.update").execute_count == 2
    assert fake.requests("Trigger")[0].priority == 3


def test_watch_resumes(client, fake, make_watch_fault):
    """A watch is a generator that survives a broken stream."""
    fake.watch_faults = [make_watch_fault(after_events=5)]
    items = list(client.watch(RUN_ID))
    assert [item.sequence for item in items if isinstance(item, RunEvent)] == list(range(1, 14))
    assert isinstance(items[-1], RunEnded)


def test_leaving_a_watch(client, fake, make_watch_fault):
    """Leaving a watch early cancels its call."""
    fake.watch_faults = [make_watch_fault(after_events=2, is_silent=True)]
    watch = client.watch(RUN_ID)
    next(watch)
    watch.close()
    assert fake.watch_ended.wait(10)


def test_errors(client, fake, make_fault, make_run):
    """Errors are raised in the caller's thread."""
    fake.faults["GetRun"] = [make_fault(code="NOT_FOUND", reason="RUN_NOT_FOUND")]
    with pytest.raises(NotFoundError):
        client.get_run(RUN_ID)
    fake.run = make_run(run_pb2.RUN_STATUS_CANCELLED)
    with pytest.raises(RunNotCompletedError):
        client.run(RUN_ID).result()


def test_questions(client):
    """Explanations, comparisons and lineages come back as from the asynchronous client."""
    assert client.explain_step(RUN_ID, "plan").text == ("It ran: nothing was cached.",)
    assert client.compare_runs(RUN_ID, RUN_ID).root_cause_step_ids == ("music",)
    assert len(client.get_lineage("a-mix", depth=2).edges) == 3


def test_shared_by_threads(client):
    """Threads may share a client."""
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(client.get_run(RUN_ID).id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [RUN_ID] * 8


def test_close_twice(serving):
    """Closing again does nothing, and the background thread is gone."""
    before = threading.active_count()
    client = SyncRunEngineClient(serving.target)
    client.get_run(RUN_ID)
    client.close()
    client.close()
    assert threading.active_count() <= before + 1  # grpc keeps one poller of its own
