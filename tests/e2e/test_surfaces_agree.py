"""The same bad request, sent through every surface, is refused for the same reason in the same words."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from runengine_client.pb.runengine.v1 import cache_pb2, run_pb2, workflow_pb2
from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_client.workflow import format_workflow

from ..support.connect_calls import CONTENT_TYPES, CallEnd, connect_end, envelope, read_stream
from ..support.engine_process import TOKENS, EngineProcess
from ..support.processes import clean_environment
from ..support.refusals import RawApi, refusal
from .workflows import demo

pytestmark = pytest.mark.anyio

RUNENGINE = Path(sys.executable).with_name("runengine")
NOWHERE = "00000000-0000-4000-8000-000000000000"
NO_KEY = f"demo:music:{'0' * 64}"
INEXACT = {"brief": 2**60}
"""Over HTTP and on the command line it is noticed where the text is read, with words of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A request that cannot work, as each surface spells it; `RUN` stands for a completed run.

    Attributes:
        reason: what it is refused for.
        service: of the proto package.
        method: of the service.
        request: over gRPC, Connect and gRPC-Web.
        path: over HTTP; with a body it is a POST.
        body: over HTTP.
        command: on the command line.
        token: whose request it is.
    """

    reason: str
    method: str
    request: Message
    path: str
    command: tuple[str, ...]
    body: Mapping[str, Any] | None = None
    service: str = "RunEngine"
    token: str = field(default=TOKENS.admin, repr=False)


def _trigger(reason: str, workflow: str, payload: dict[str, Any], token: str = TOKENS.admin) -> Bad:
    request = pb.TriggerRequest(workflow_name=workflow)
    request.trigger_payload.update(payload)
    return Bad(
        reason=reason,
        method="Trigger",
        request=request,
        path="/runs",
        body={"workflowName": workflow, "triggerPayload": payload},
        command=("trigger", workflow, "--payload", json.dumps(payload)),
        token=token,
    )


BAD = (
    _trigger("WORKFLOW_NOT_FOUND", "nope", {}),
    _trigger("PAYLOAD_SCHEMA_MISMATCH", "demo", {"other": 1}),
    _trigger("VALIDATION_FAILED", "demo", INEXACT),
    _trigger("TOKEN_INVALID", "demo", {}, token="wrong"),
    _trigger("SCOPE_REQUIRED", "demo", {}, token=TOKENS.reader),
    Bad(
        reason="UNKNOWN_CHANGE_TYPE",
        method="TriggerUpdate",
        request=pb.TriggerUpdateRequest(base_run_id="RUN", change_request=run_pb2.ChangeRequest(type="nope")),
        path="/runs/RUN/update",
        body={"changeRequest": {"type": "nope"}},
        command=("update", "RUN", "nope"),
    ),
    Bad(
        reason="RUN_NOT_RETRYABLE",
        method="RetryRun",
        request=pb.RetryRunRequest(run_id="RUN"),
        path="/runs/RUN/retry",
        body={},
        command=("retry", "RUN"),
    ),
    Bad(
        reason="RUN_NOT_FOUND",
        method="GetRun",
        request=pb.GetRunRequest(run_id=NOWHERE),
        path=f"/runs/{NOWHERE}",
        command=("get", NOWHERE),
    ),
    Bad(
        reason="STEP_NOT_FOUND",
        method="ExplainStep",
        request=pb.ExplainStepRequest(run_id="RUN", step_id="nope"),
        path="/runs/RUN/steps/nope/explain",
        command=("explain", "RUN", "nope"),
    ),
    Bad(
        reason="WORKFLOW_NOT_FOUND",
        service="WorkflowRegistryService",
        method="GetWorkflow",
        request=workflow_pb2.GetWorkflowRequest(name="demo", version="9.9.9"),
        path="/workflows/demo?version=9.9.9",
        command=("workflow", "get", "demo", "--version", "9.9.9"),
    ),
    Bad(
        reason="CACHE_ENTRY_NOT_FOUND",
        service="CacheAdminService",
        method="GetCacheEntry",
        request=cache_pb2.GetCacheEntryRequest(key=NO_KEY),
        path=f"/cache/entries/{NO_KEY}",
        command=("cache", "get", NO_KEY),
    ),
)


@pytest.fixture(scope="module")
def completed(engine: EngineProcess) -> str:
    """A completed run of `demo`."""
    headers = {"authorization": f"Bearer {TOKENS.admin}"}
    with httpx.Client(base_url=f"{engine.http_url}/api/v1", headers=headers, timeout=20) as http:
        document = format_workflow(demo())
        assert http.post("/workflows", content=document, headers={"content-type": "application/yaml"}).is_success
        payload = {"brief": {"style": "calm"}}
        run_id: str = http.post("/runs", json={"workflowName": "demo", "triggerPayload": payload}).json()["runId"]
        with http.stream("GET", f"/runs/{run_id}/events") as events:
            assert any(line == "event: end" for line in events.iter_lines())
        return run_id


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.method}-{bad.reason}")
async def test_one_reason(bad: Bad, engine: EngineProcess, raw: RawApi, completed: str) -> None:
    """gRPC, HTTP, Connect, gRPC-Web and the command line give the same reason and, but for numbers, the same words.

    The command line may go on with what to do there.
    """
    request = json_format.Parse(json_format.MessageToJson(bad.request).replace("RUN", completed), type(bad.request)())
    stub = {"RunEngine": raw.engine, "WorkflowRegistryService": raw.registry, "CacheAdminService": raw.cache}
    over_grpc = refusal(getattr(stub[bad.service], bad.method), request, bad.token)
    assert over_grpc.reason == bad.reason
    code, message = _typed(bad, engine, completed)
    told = {"HTTP": _over_http(bad, engine, completed), "command line": (code, message[: len(over_grpc.message)])}
    for protocol in ("connect", "grpc-web"):
        end = await _from_a_browser(protocol, bad, engine, request)
        told[protocol] = (end.reason, end.message)
    if bad.body == {"workflowName": "demo", "triggerPayload": INEXACT}:
        told = {surface: (reason, over_grpc.message) for surface, (reason, _) in told.items()}
    assert set(told.values()) == {(over_grpc.reason, over_grpc.message)}, told


def _over_http(bad: Bad, engine: EngineProcess, run_id: str) -> tuple[str, str]:
    verb = "GET" if bad.body is None else "POST"
    url = f"{engine.http_url}/api/v1{bad.path.replace('RUN', run_id)}"
    answer = httpx.request(verb, url, json=bad.body, headers={"authorization": f"Bearer {bad.token}"}, timeout=20)
    error = answer.json()["error"]
    assert error["status"] == answer.status_code
    return error["code"], error["message"]


def _typed(bad: Bad, engine: EngineProcess, run_id: str) -> tuple[str, str]:
    words = [run_id if word == "RUN" else word for word in bad.command]
    environment = clean_environment() | {"RUNENGINE_TARGET": engine.target, "RUNENGINE_TOKEN": bad.token}
    done = subprocess.run(
        [RUNENGINE, *words, "--output", "json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    error = json.loads(done.stderr)["error"]
    return error["code"], error["message"]


async def _from_a_browser(protocol: str, bad: Bad, engine: EngineProcess, request: Message) -> CallEnd:
    url = f"{engine.http_url}/runengine.v1.{bad.service}/{bad.method}"
    headers = {"authorization": f"Bearer {bad.token}"}
    async with httpx.AsyncClient(headers=headers, timeout=20) as http:
        if protocol == "connect":
            answer = await http.post(url, json=json_format.MessageToDict(request))
            return connect_end(answer.json())
        body = envelope(protocol, request.SerializeToString())
        async with http.stream("POST", url, content=body, headers={"content-type": CONTENT_TYPES[protocol]}) as stream:
            (end,) = [each async for each in read_stream(protocol, stream)]
    assert isinstance(end, CallEnd)
    return end
