"""Tells a RequestMeter of every HTTP request that was answered."""

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runengine_server.ports.request_meter import RequestMeter

UNKNOWN = "unknown"
_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_CLOSED = 499


class MeteredRequests:
    """ASGI application around another one; of a path it tells the template of the route that answered."""

    def __init__(self, app: ASGIApp, meter: RequestMeter) -> None:
        """Measure `app`, a Starlette application."""
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and tell how long its answer took to begin."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = perf_counter()
        status, answered_s = _CLIENT_CLOSED, 0.0

        async def note(message: Message) -> None:
            nonlocal status, answered_s
            if message["type"] == "http.response.start":
                status, answered_s = message["status"], perf_counter()
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path", UNKNOWN)  # Starlette says which one it took
            verb = scope["method"] if scope["method"] in _VERBS else "other"
            self._meter.http_answered(route, verb, status, (answered_s or perf_counter()) - began_s)
