"""Records the requests of the API's HTTP surface, by route: paths hold ids, and queries may hold tokens."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runengine_server.adapters.telemetry.tracing.served_calls import ServedCalls, failed

_TRACED: Final = ("/api/", "/runengine.")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpRequests:
    """ASGI application: another one, with a span around each request to the API; pages and assets have none."""

    def __init__(self, app: ASGIApp, calls: ServedCalls) -> None:
        """Record what `app` answers."""
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith(_TRACED):
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        status = 0

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._calls.call(method, headers, {"http.request.method": method, "url.scheme": scope["scheme"]}) as span:
            try:
                await self._app(scope, receive, noting_status)
            finally:
                if route := getattr(scope.get("route"), "path", ""):
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)
                if status:
                    span.set_attribute("http.response.status_code", status)
                if status >= 500 or not status:
                    failed(span, str(status or "CANCELLED"))
