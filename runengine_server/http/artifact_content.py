"""`GET /artifacts/{id}` and its bytes at `/artifacts/{id}/content`: streamed, in ranges, and harmless in a browser."""

from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from google.protobuf.empty_pb2 import Empty
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route as Endpoint

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.caller import Caller
from runengine_server.domain.errors import ExhaustedError
from runengine_server.http.byte_ranges import UnsatisfiableRangeError, is_unchanged, wanted_range
from runengine_server.http.content_headers import content_headers, entity_tag
from runengine_server.http.content_stream import ContentStream
from runengine_server.http.endpoint import endpoint
from runengine_server.http.errors import plain_error
from runengine_server.http.json_reading import read_query
from runengine_server.http.json_writing import write_message
from runengine_server.http.routes import BASE_PATH
from runengine_server.http.watch_tokens import RunReaders, parameters_of
from runengine_server.ports.artifact_store import BytesElsewhere
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.conversion.problems import Problems
from runengine_server.rpc.conversion.run import artifact_to_proto
from runengine_server.service.services import Services

METHOD = "/runengine.v1.RunEngine/ListArtifacts"
"""Who may list artifacts may open them."""

PATH = "/artifacts/{artifactId}"
CONTENT_PATH = f"{PATH}/content"

DOWNLOADS_MAX = 200
"""At the same time, of this server: each holds a file or a connection open for as long as its reader takes."""


class ArtifactContents:
    """Serves artifacts to who may read the runs that show them."""

    def __init__(self, services: Services, admission: Admission, readers: RunReaders) -> None:
        """Serve with these use cases, to whom `readers` admit."""
        self._services = services
        self._admission = admission
        self._readers = readers
        self._open = 0

    def endpoints(self) -> list[Endpoint]:
        """Where they are served; HEAD, too."""
        return [
            Endpoint(BASE_PATH + PATH, endpoint(self._admission, self._describe), methods=["GET"]),
            Endpoint(BASE_PATH + CONTENT_PATH, endpoint(self._admission, self._answer), methods=["GET"]),
        ]

    async def _describe(self, request: Request) -> Response:
        caller = await self._admit(request)
        artifact = await self._services.get_artifact(caller, request.path_params["artifactId"])
        return Response(orjson.dumps(write_message(artifact_to_proto(artifact))), media_type="application/json")

    async def _answer(self, request: Request) -> Response:
        caller = await self._admit(request)
        content = await self._services.open_artifact(caller, request.path_params["artifactId"])
        if isinstance(content.found, BytesElsewhere):
            return RedirectResponse(content.found.url, status_code=302, headers={"Cache-Control": "no-store"})
        headers = content_headers(content.artifact)
        if is_unchanged(request.headers, entity_tag(content.artifact)):
            return Response(status_code=304, headers=headers)
        size = content.found.size_bytes
        try:
            part = wanted_range(request.headers, size, entity_tag(content.artifact))
        except UnsatisfiableRangeError:
            refusal = plain_error("RANGE_NOT_SATISFIABLE", f"the artifact has {size} bytes", 416)
            refusal.headers["Content-Range"] = f"bytes */{size}"
            return refusal
        start, end = part or (0, size)
        headers["Content-Length"] = str(end - start)
        if part is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        status = 200 if part is None else 206
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        self._check_room(content.artifact)
        return ContentStream(content.found.chunks(start, end), status, headers, self._counted)

    async def _admit(self, request: Request) -> Caller:
        """Who calls, with nothing in the query but a watch token."""
        caller = await self._readers.admit(request, METHOD)
        problems = Problems()
        read_query(parameters_of(request), Empty(), problems)
        problems.raise_if_any()
        return caller

    def _check_room(self, artifact: Artifact) -> None:
        if self._open >= DOWNLOADS_MAX:
            raise ExhaustedError(
                "TOO_MANY_DOWNLOADS",
                f"this server sends {DOWNLOADS_MAX} artifacts already; try again shortly, or another replica",
                metadata={"subject": "server", "artifactId": artifact.id},
                retry_after_s=1.0,
            )

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
