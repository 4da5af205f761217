"""A debugging tool that knows nothing of RunEngine finds and uses everything through reflection."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runengine_client.pb.runengine.v1 import workflow_pb2

from ..support.engine_process import TOKENS, EngineProcess
from ..support.refusals import bearer, raw_api
from .workflows import demo

GRPCURL = Path(sys.executable).with_name("grpcurl")
Grpcurl = Callable[..., str]


@pytest.fixture(scope="module")
def grpcurl(engine: EngineProcess) -> Iterator[Grpcurl]:
    """Runs grpcurl against the server and returns what it prints; a failure fails the test."""

    def run(*arguments: str, data: object = None, token: str = TOKENS.admin) -> str:
        options = ["-plaintext", "-max-time", "20", "-H", f"authorization: Bearer {token}"]
        options += ["-d", json.dumps(data)] if data is not None else []
        done = subprocess.run(
            [GRPCURL, *options, engine.target, *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with raw_api(engine.target) as api:
        request = workflow_pb2.RegisterWorkflowRequest(workflow=demo())
        api.registry.RegisterWorkflow(request, metadata=bearer(TOKENS.admin), timeout=20)
    yield run


def messages(text: str) -> list[dict[str, object]]:
    """The JSON objects that grpcurl printed one after another."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].strip()
    return found


def test_list(grpcurl: Grpcurl) -> None:
    """Every service is listed, health and reflection too, and the engine's methods by name."""
    assert set(grpcurl("list").split()) == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "runengine.v1.CacheAdminService",
        "runengine.v1.RunEngine",
        "runengine.v1.WorkflowRegistryService",
    }
    methods = {name.rpartition(".")[2] for name in grpcurl("list", "runengine.v1.RunEngine").split()}
    assert {"Trigger", "TriggerUpdate", "Cancel", "RetryRun", "GetRun", "WatchRun", "CompareRuns"} <= methods


def test_describe(grpcurl: Grpcurl) -> None:
    """A service with its methods and a message can be described."""
    service = grpcurl("describe", "runengine.v1.RunEngine")
    assert "rpc WatchRun ( .runengine.v1.WatchRunRequest ) returns ( stream .runengine.v1.WatchRunResponse )" in service
    assert "trigger_payload" in grpcurl("describe", "runengine.v1.TriggerRequest")


def test_trigger_and_watch(grpcurl: Grpcurl) -> None:
    """A run can be triggered and watched to its end."""
    (answer,) = messages(
        grpcurl(
            "runengine.v1.RunEngine/Trigger",
            data={"workflow_name": "demo", "trigger_payload": {"brief": {"style": "epic"}}},
        )
    )
    assert (answer["message"], answer["status"]) == ("Run queued for execution", "RUN_STATUS_QUEUED")
    found = messages(
        grpcurl("runengine.v1.RunEngine/WatchRun", data={"run_id": answer["run_id"], "after_sequence": "0"})
    )
    end = found[-1]["end"]
    assert isinstance(end, dict)
    assert end["run"]["status"] == "RUN_STATUS_COMPLETED"
    batches = [message["events"]["events"] for message in found if "events" in message]  # type: ignore[index]
    sequences = [int(event["sequence"]) for batch in batches for event in batch]
    assert sequences == list(range(1, int(str(found[-1]["sequence"])) + 1))


def test_refusal(engine: EngineProcess) -> None:
    """A refusal is readable: status, message and the ErrorInfo with its reason."""
    command = [str(GRPCURL), "-plaintext", "-format-error", "-H", f"authorization: Bearer {TOKENS.admin}", "-d", "{}"]
    command += [engine.target, "runengine.v1.RunEngine/GetRun"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    for word in ("RUN_NOT_FOUND", "runengine.v1"):
        assert word in done.stderr
