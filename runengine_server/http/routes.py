"""THE table of the REST surface: which path and verb is which method, and what becomes of its response."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import Message

from runengine_client.workflow.document import document_of
from runengine_server.domain.json_value import JsonObject
from runengine_server.http.json_writing import write_message

_ENGINE: Final = "/runengine.v1.RunEngine"
_REGISTRY: Final = "/runengine.v1.WorkflowRegistryService"
_CACHE: Final = "/runengine.v1.CacheAdminService"

BASE_PATH: Final = "/api/v1"

Shape = Callable[[Any], JsonObject]


def as_is(response: Message) -> JsonObject:
    """All of the response; its own lists also when they are empty."""
    lists: JsonObject = {
        each.json_name: [] for each in response.DESCRIPTOR.fields if each.is_repeated and each.message_type is not None
    }
    return lists | write_message(response)


def started(response: Message) -> JsonObject:
    """What became of a request for a run: exactly run id, status and message, and the plan where it was asked for."""
    written = write_message(response)
    return {key: written[key] for key in ("runId", "status", "message", "plan") if key in written}


def run_alone(response: Any) -> JsonObject:
    """The run itself."""
    return write_message(response.run)


def cancelled(response: Any) -> JsonObject:
    """As for a request that starts a run: run id, status and message."""
    run = write_message(response.run)
    return {"runId": run["id"], "status": run["status"], "message": response.message}


def workflow_document(workflow: Any) -> JsonObject:
    """The workflow with the keys of workflow files, and what the server adds."""
    written = write_message(workflow)
    return document_of(workflow) | {key: written[key] for key in ("digest", "createdAt") if key in written}


def _workflow_alone(response: Any) -> JsonObject:
    return workflow_document(response.workflow)


def _workflows(response: Any) -> JsonObject:
    page: JsonObject = {"workflows": [workflow_document(workflow) for workflow in response.workflows]}
    return page | ({"nextPageToken": response.next_page_token} if response.next_page_token else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation.

    Attributes:
        verb: GET has its request in the path and the query, POST in the path and the body.
        path: below `BASE_PATH`; parameters in braces are fields of the request by their JSON names.
        method: the gRPC method it stands for.
        summary: one line for people.
        shape: makes the answer of the response.
        status: of a success.
        parameters: query parameters that are spelt otherwise than the field of the request, by their names.
        is_for_watchers: reads the run `runId` of the path, so that a watch token of that run opens it.
    """

    verb: str
    path: str
    method: str
    summary: str
    shape: Shape = as_is
    status: int = 200
    parameters: Mapping[str, str] = field(default_factory=dict)
    is_for_watchers: bool = False

    @property
    def is_starting(self) -> bool:
        """Whether it asks for a run, so that the answer can carry a plan."""
        return self.shape is started


ROUTES: Final = (
    Route(
        verb="POST",
        path="/runs",
        method=f"{_ENGINE}/Trigger",
        summary="Start an initial run",
        shape=started,
        status=202,
    ),
    Route(verb="GET", path="/runs", method=f"{_ENGINE}/ListRuns", summary="List runs, newest first"),
    Route(
        verb="GET",
        path="/runs/{runId}",
        method=f"{_ENGINE}/GetRun",
        summary="Read one run",
        shape=run_alone,
        is_for_watchers=True,
    ),
    Route(
        verb="POST",
        path="/runs/{baseRunId}/update",
        method=f"{_ENGINE}/TriggerUpdate",
        summary="Start a partial rebuild of a completed run",
        shape=started,
        status=202,
    ),
    Route(
        verb="POST",
        path="/runs/{runId}/cancel",
        method=f"{_ENGINE}/Cancel",
        summary="Cancel a run; needs no body",
        shape=cancelled,
    ),
    Route(
        verb="POST",
        path="/runs/{runId}/retry",
        method=f"{_ENGINE}/RetryRun",
        summary="Finish a failed or cancelled run in a new one; needs no body",
        shape=started,
        status=202,
    ),
    Route(
        verb="POST",
        path="/runs/{runId}/watch-token",
        method=f"{_ENGINE}/CreateWatchToken",
        summary="Make a short-lived token that reads this run alone; needs no body",
    ),
    Route(
        verb="GET",
        path="/runs/{runId}/steps",
        method=f"{_ENGINE}/ListSteps",
        summary="List a run's steps",
        is_for_watchers=True,
    ),
    Route(
        verb="GET",
        path="/runs/{runId}/steps/{stepId}/explain",
        method=f"{_ENGINE}/ExplainStep",
        summary="Say why a step is as it is",
    ),
    Route(
        verb="GET",
        path="/runs/{runId}/artifacts",
        method=f"{_ENGINE}/ListArtifacts",
        summary="List a run's artifacts, those of reused steps included",
        is_for_watchers=True,
    ),
    Route(
        verb="GET",
        path="/runs/{leftRunId}/compare",
        method=f"{_ENGINE}/CompareRuns",
        summary="Compare two runs of a workflow step by step",
        parameters={"with": "rightRunId"},
    ),
    Route(
        verb="GET",
        path="/artifacts/{artifactId}/lineage",
        method=f"{_ENGINE}/GetLineage",
        summary="Say what an artifact was made from",
    ),
    Route(
        verb="GET", path="/queue", method=f"{_ENGINE}/GetQueue", summary="Say how deep the queue is, and what is stuck"
    ),
    Route(
        verb="GET",
        path="/workflows",
        method=f"{_REGISTRY}/ListWorkflows",
        summary="List workflows by name",
        shape=_workflows,
    ),
    Route(
        verb="GET",
        path="/workflows/{name}",
        method=f"{_REGISTRY}/GetWorkflow",
        summary="Read a workflow; without a version the highest",
        shape=_workflow_alone,
    ),
    Route(
        verb="GET",
        path="/cache/entries",
        method=f"{_CACHE}/ListCacheEntries",
        summary="List cache entries, newest first",
    ),
    Route(
        verb="GET",
        path="/cache/entries/{key}",
        method=f"{_CACHE}/GetCacheEntry",
        summary="Read one cache entry",
    ),
    Route(
        verb="POST",
        path="/cache/invalidate",
        method=f"{_CACHE}/InvalidateCache",
        summary="Remove cache entries, or with validateOnly count what would go",
    ),
    Route(
        verb="GET",
        path="/cache/stats",
        method=f"{_CACHE}/GetCacheStats",
        summary="Count hits and misses by workflow and step",
    ),
)
