"""The application of port 3002: for operators and their tools, without tokens, so without anything of a tenant."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

QUEUE_PAGE = "/queue"


def ops_app(*, console_url: str) -> ASGIApp:
    """Health and metrics.

    Args:
        console_url: where the console is, whose queue page stands in the place of Bull Board.
    """

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def bull_board(request: Request) -> Response:
        return RedirectResponse(f"{console_url}{QUEUE_PAGE}")

    return Starlette(routes=[Route("/health/live", live), Route("/bull-board", bull_board)])
