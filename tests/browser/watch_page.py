"""The example page `web/watch-page` as tests use it: built, served from an origin of its own, driven, read."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.async_api import Page, expect

from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.browser import REPOSITORY, WAIT_S_MAX

FOLDER = REPOSITORY / "web" / "watch-page"
WORKFLOW = "two.gates"


def two_gates() -> workflow_pb2.Workflow:
    """Two steps that wait at gates, one after the other, and one after them."""
    return (
        WorkflowBuilder(WORKFLOW, version="1.0.0")
        .step("first", skill="t.gated", input={"gate": expression("trigger.first")}, timeout="60s")
        .step("second", skill="t.gated", needs=["first"], input={"gate": expression("trigger.second")}, timeout="60s")
        .step("last", skill="t.echo", needs=["second"], input={"of": expression("steps.second.output.gate")})
        .build()
    )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder's files have an origin, which this is."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class WatchPage:
    """The page in a browser."""

    def __init__(self, page: Page, origin: str, *, protocol: str = "connect") -> None:
        """Not opened yet."""
        self._page = page
        self._origin = origin
        self._protocol = protocol
        self.events = page.locator("#events li")
        self.problem = page.locator("#problem")

    async def start(self, engine_url: str, token: str, payload: str) -> None:
        """The page is open and has been told to start a run."""
        query = {"url": engine_url, "workflow": WORKFLOW, "payload": payload, "protocol": self._protocol}
        await self._page.goto(f"{self._origin}/?{urlencode(query)}")
        await self._page.get_by_label("Token").fill(token)
        await self._page.get_by_role("button", name="Start").click()

    async def is_in(self, state: str) -> None:
        """The page says that it is in the state, or has come to it in time."""
        await expect(self._page.locator("#state")).to_have_attribute("data-state", state, timeout=WAIT_S_MAX * 1000)

    async def has_event(self, text: str) -> None:
        """The page shows the event, or does in time."""
        await expect(self.events.filter(has_text=text)).to_have_count(1, timeout=WAIT_S_MAX * 1000)

    async def sequences(self) -> list[int]:
        """What is shown, in the order of the page."""
        shown: list[Any] = await self.events.evaluate_all("items => items.map(item => Number(item.dataset.sequence))")
        return [int(each) for each in shown]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class has it so
        """Say nothing."""
