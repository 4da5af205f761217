"""A client that knows only the protos calls the HTTP port by Connect and by gRPC-Web."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runengine_client.pb.runengine.v1 import workflow_pb2

from ..support.engine_process import TOKENS, EngineProcess
from ..support.processes import REPOSITORY
from ..support.refusals import bearer, raw_api
from .test_grpcurl import messages
from .workflows import demo

BUF = Path(sys.executable).with_name("buf")
BufCurl = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.parametrize("protocol", ["connect", "grpcweb"])


@pytest.fixture(scope="module")
def buf_curl(engine: EngineProcess) -> Iterator[BufCurl]:
    """Calls a method of the engine; the run it ends in has a workflow."""

    def run(protocol: str, method: str, data: dict[str, Any], *, token: str = TOKENS.admin) -> Any:
        url = f"{engine.http_url}/runengine.v1.RunEngine/{method}"
        options = ["--schema", "protos", "--protocol", protocol, "-H", f"authorization: Bearer {token}"]
        return subprocess.run(
            [BUF, "curl", *options, "-d", json.dumps(data), url],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    with raw_api(engine.target) as api:
        request = workflow_pb2.RegisterWorkflowRequest(workflow=demo())
        api.registry.RegisterWorkflow(request, metadata=bearer(TOKENS.admin), timeout=20)
    yield run


def test_a_run_is_started_and_followed(buf_curl: BufCurl, protocol: str) -> None:
    """Trigger answers with a run id, and WatchRun tells every event of it to the end."""
    payload = {"workflowName": "demo", "triggerPayload": {"brief": {"by": protocol}}}
    started = buf_curl(protocol, "Trigger", payload)
    assert started.returncode == 0, started.stderr
    run_id = json.loads(started.stdout)["runId"]
    watched = buf_curl(protocol, "WatchRun", {"runId": run_id, "afterSequence": "0"})
    assert watched.returncode == 0, watched.stderr
    told = messages(watched.stdout)
    events = [event for message in told for event in message.get("events", {}).get("events", ())]  # type: ignore[attr-defined]
    sequences = [int(event["sequence"]) for event in events]
    assert sequences == list(range(1, len(sequences) + 1))
    assert told[-1]["end"]["run"]["status"] == "RUN_STATUS_COMPLETED"  # type: ignore[index]


def test_refusals(buf_curl: BufCurl, protocol: str) -> None:
    """A refusal has code and words, in an answer and at the end of a stream."""
    nowhere = {"runId": "00000000-0000-4000-8000-000000000000"}
    for method in ("GetRun", "WatchRun"):
        refused = buf_curl(protocol, method, nowhere)
        assert refused.returncode != 0
        assert json.loads(refused.stderr)["code"] == "not_found"
        assert nowhere["runId"] in json.loads(refused.stderr)["message"]
    stranger = buf_curl(protocol, "Trigger", {"workflowName": "demo"}, token=TOKENS.reader)
    assert json.loads(stranger.stderr)["code"] == "permission_denied"
