"""What the OpenAPI document says is what the server does, whatever is sent."""

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from runengine_client.workflow import document_of

from ..support.engine_process import TOKENS, EngineProcess
from .workflows import demo

NOWHERE = "00000000-0000-4000-8000-000000000000"
ADMIN = {"authorization": f"Bearer {TOKENS.admin}"}
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = 15


@pytest.fixture(scope="module")
def document(engine: EngineProcess) -> Iterator[dict[str, Any]]:
    """The document, read without a token, of a server that has a workflow and a completed run."""
    api = f"{engine.http_url}/api/v1"
    assert httpx.post(f"{api}/workflows", json=document_of(demo()), headers=ADMIN).status_code == 201
    started = httpx.post(
        f"{api}/runs", json={"workflowName": "demo", "triggerPayload": {"brief": {"style": "x"}}}, headers=ADMIN
    )
    with httpx.stream("GET", f"{api}/runs/{started.json()['runId']}/events", headers=ADMIN, timeout=20) as stream:
        assert any(line == "event: end" for line in stream.iter_lines())
    yield httpx.get(f"{api}/openapi.json").json() | {"x-run-id": started.json()["runId"]}


def test_every_operation_holds_to_the_document(engine: EngineProcess, document: dict[str, Any]) -> None:
    """Random requests, right and wrong, get answers of the kinds that the document declares, and never a failure."""
    schema = schemathesis.openapi.from_dict(_with_known_ids(document))
    schema.config.update(base_url=engine.http_url)
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/events"):
            continue  # a stream has no end of its own; test_http_events.py reads it

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        def conforms(case: Any) -> None:
            case.call_and_validate(headers=ADMIN, checks=CHECKS)

        for mode in GenerationMode:
            with suppress(Unsatisfiable):  # some operations take everything: nothing is wrong for them
                given(case=operation.as_strategy(generation_mode=mode))(conforms)()
        tried += 1
    assert tried == sum(len(each) for each in document["paths"].values()) - 1


def _with_known_ids(document: dict[str, Any]) -> dict[str, Any]:
    """The document for a caller who knows what there is: ids of things that exist, beside ones that do not."""
    known = {
        "runId": [document["x-run-id"], NOWHERE],
        "baseRunId": [document["x-run-id"], NOWHERE],
        "leftRunId": [document["x-run-id"]],
        "with": [document["x-run-id"], NOWHERE],
        "stepId": ["music", "nope"],
        "name": ["demo", "nope"],
        "workflowName": ["demo"],
        "type": ["music.update", "nope"],
        "triggerPayload": [{"brief": {"style": "y"}}, {}],
    }

    def put(node: Any, name: str = "") -> Any:
        if isinstance(node, list):
            return [put(each) for each in node]
        if not isinstance(node, dict):
            return node
        if node.get("in") in ("path", "query") and node["name"] in known:
            return node | {"schema": {"type": "string", "enum": known[node["name"]]}}
        if name in known and "type" in node:
            return {"type": node["type"], "enum": known[name]}
        return {key: put(value, key) for key, value in node.items()}

    found = deepcopy(document)
    for operations in found["paths"].values():
        for operation in operations.values():
            operation["parameters"] = put(operation.get("parameters", []))
            if "requestBody" in operation:
                operation["requestBody"] = put(operation["requestBody"])
    return found


def test_answers_to_good_requests_are_described(engine: EngineProcess, document: dict[str, Any]) -> None:
    """Every member that a real answer has is in its schema."""
    run_id = document["x-run-id"]
    cases = {
        "/api/v1/runs": "/api/v1/runs",
        "/api/v1/runs/{runId}": f"/api/v1/runs/{run_id}?view=full",
        "/api/v1/runs/{runId}/steps": f"/api/v1/runs/{run_id}/steps?view=full",
        "/api/v1/runs/{runId}/steps/{stepId}/explain": f"/api/v1/runs/{run_id}/steps/music/explain",
        "/api/v1/runs/{leftRunId}/compare": f"/api/v1/runs/{run_id}/compare?with={run_id}",
        "/api/v1/cache/entries": "/api/v1/cache/entries",
        "/api/v1/cache/stats": "/api/v1/cache/stats",
    }
    for path, url in cases.items():
        answer = httpx.get(engine.http_url + url, headers=ADMIN)
        assert answer.status_code == 200, answer.text
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        strict = _closed({**document, **schema})
        jsonschema.Draft202012Validator(strict).validate(answer.json())


def _closed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with every message's schema closed: a member it does not name is an error."""
    schemas = {
        name: schema | {"additionalProperties": False} if "properties" in schema else schema
        for name, schema in document["components"]["schemas"].items()
        if name != "WorkflowDocument"
    }
    return {**document, "components": {"schemas": schemas}}


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """Another reader of OpenAPI takes the document, too."""
    document = {key: value for key, value in document.items() if key != "x-run-id"}
    validate(document)
    assert document["openapi"].startswith("3.1")
