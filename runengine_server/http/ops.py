"""The application of port 3002: for operators and their tools, without tokens, so without anything of a tenant."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from runengine_server.domain.errors import UnavailableError
from runengine_server.http.json_writing import write_message
from runengine_server.rpc.conversion.queue import queue_to_proto
from runengine_server.service.queue_overview import QueueOverview, QueueOverviews

QUEUE_PAGE = "/queue"

_QUEUE_MEMBERS = ("readAt", "enginesAlive", "total", "skills")
"""Of a tenant's queue; its steps are the tenant's own affair."""

RenderMetrics = Callable[[str, QueueOverview | None], tuple[bytes, str]]
"""From what the request accepts and the queue, None while nobody can read it, to the metrics and their media type."""


def ops_app(
    *,
    console_url: str,
    reasons: Callable[[], Sequence[str]],
    queue: QueueOverviews,
    metrics: RenderMetrics,
) -> ASGIApp:
    """Health and metrics; every answer counts and measures, none has a tenant, an id or a payload.

    Args:
        console_url: where the console is, whose queue page stands in the place of Bull Board.
        reasons: why the server is not ready, in codes.
        queue: depth and age.
        metrics: renders a scrape.
    """

    async def live(request: Request) -> Response:
        return _json({"status": "live"})

    async def ready(request: Request) -> Response:
        if found := reasons():
            return _unready(found)
        return _json({"status": "ready"})

    async def queues(request: Request) -> Response:
        try:
            overview = await queue.of_all()
        except UnavailableError as error:
            return _unready([error.reason])
        shown = write_message(queue_to_proto(overview))
        return _json({name: shown.get(name, []) for name in _QUEUE_MEMBERS})

    async def scrape(request: Request) -> Response:
        try:
            overview = await queue.of_all()
        except UnavailableError:
            overview = None
        content, media_type = metrics(request.headers.get("accept", ""), overview)
        return Response(content, headers={"content-type": media_type})

    async def bull_board(request: Request) -> Response:
        return RedirectResponse(f"{console_url}{QUEUE_PAGE}")

    return Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/health/queues", queues),
            Route("/metrics", scrape),
            Route("/bull-board", bull_board),
        ]
    )


def _unready(reasons: Sequence[str]) -> Response:
    return _json({"status": "unready", "reasons": list(reasons)}, 503)


def _json(content: Any, status: int = 200) -> Response:
    return Response(
        orjson.dumps(content), status_code=status, media_type="application/json", headers={"cache-control": "no-store"}
    )
