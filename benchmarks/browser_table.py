"""A page that follows a run: how long after a commit a person sees it."""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, time
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from playwright.async_api import Browser, Page, Route, async_playwright

from benchmarks.bench import Bench, BenchmarkError
from benchmarks.databases import Databases
from benchmarks.figures import Figures, Say
from benchmarks.measurement import percentile
from benchmarks.result import Result
from benchmarks.stage import LOCAL, measure_figures, opened_bench, run_async
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.skills import AsyncSkillContext, skill
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_server.domain.ids import RunId

_WORKFLOW: Final = "bench.seen"
_SKILL: Final = "bench.pause"
_PAGE: Final = Path(__file__).parents[1] / "web" / "watch-page"
_PROTOCOLS: Final = ("connect", "grpc-web")
_RUN_S_MAX: Final = 120.0

# When each step's completion is in the document, and when the frame that shows it has been drawn; wall clock, in ms.
_OBSERVER: Final = """
addEventListener("DOMContentLoaded", () => {
  const now = () => performance.timeOrigin + performance.now();
  window.seen = {};
  new MutationObserver((changes) => {
    for (const item of changes.flatMap((change) => [...change.addedNodes])) {
      const step = /(\\S+) is completed$/.exec(item.textContent)?.[1];
      if (step === undefined) continue;
      const told = now();
      requestAnimationFrame(() => setTimeout(() => { window.seen[step] = [told, now()]; }));
    }
  }).observe(document.getElementById("events"), { childList: true });
});
"""


def measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    """Runs have been followed in Chromium by each protocol, after one each that does not count."""
    figures = Figures(say)
    return run_async(measure_figures(databases, figures, _measure(databases, options, figures)))


@dataclass(slots=True)
class _Commits:
    """When steps were committed, by the wall clock in ms."""

    at: dict[str, float] = field(default_factory=dict)

    def on_step(self, run_id: RunId, step_id: str, at: float) -> None:
        self.at[step_id] = (at + time() - perf_counter()) * 1e3


async def _measure(databases: Databases, options: argparse.Namespace, figures: Figures) -> None:
    _build()
    commits = _Commits()

    @skill(_SKILL, version="1", max_concurrency=0)
    async def pause(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        """Leaves the machine idle for a moment, as slow skills do."""
        await asyncio.sleep(options.pause_s)
        return given

    async with (
        opened_bench(
            databases, [_workflow(options.steps)], settings=LOCAL, skills={_SKILL: pause}, on_step=commits.on_step
        ) as bench,
        async_playwright() as playwright,
    ):
        path = shutil.which("chromium")
        if path is None:
            raise BenchmarkError("no chromium")
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for protocol in _PROTOCOLS:
            for number in range(options.reps + 1):
                commits.at.clear()
                seen = await _seen(browser, bench, protocol, options.steps)
                if number:
                    _add(figures, protocol, commits, seen)
        await browser.close()


async def _seen(browser: Browser, bench: Bench, protocol: str, steps: int) -> dict[str, list[float]]:
    """For each step of a run when it was in the document and when it was drawn."""
    page = await browser.new_page()
    await page.route("**/watch-page/*", _from_disk)
    await page.add_init_script(_OBSERVER)
    query = {"url": bench.engine.http.url, "workflow": _WORKFLOW, "payload": "{}", "protocol": protocol}
    await page.goto(f"{bench.engine.http.url}/watch-page/index.html?{urlencode(query)}")
    await page.get_by_label("Token").fill("anybody")
    await page.get_by_role("button", name="Start").click()
    seen = await _complete(page, steps)
    await page.close()
    return seen


async def _complete(page: Page, steps: int) -> dict[str, list[float]]:
    await page.wait_for_function(f"() => Object.keys(window.seen).length > {steps}", timeout=_RUN_S_MAX * 1e3)
    seen: dict[str, list[float]] = await page.evaluate("() => window.seen")
    return seen


async def _from_disk(route: Route) -> None:
    """The page comes with the engine's origin, as from a server that stands before both."""
    await route.fulfill(path=_PAGE / "dist" / Path(urlsplit(route.request.url).path).name)


def _add(figures: Figures, protocol: str, commits: _Commits, seen: dict[str, list[float]]) -> None:
    told = [seen[step][0] - at for step, at in commits.at.items()]
    drawn = [seen[step][1] - at for step, at in commits.at.items()]
    for share in (50, 99):
        figures.add(protocol, f"commit to the page, p{share}", "ms", percentile(told, share))
        figures.add(protocol, f"commit to visible, p{share}", "ms", percentile(drawn, share))


def _build() -> None:
    """The page is there; `buf`, which makes its stubs, is in this environment."""
    npm = shutil.which("npm")
    if npm is None:
        raise BenchmarkError("no node")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    commands = [] if (_PAGE / "node_modules").is_dir() else [[npm, "ci", "--no-audit", "--no-fund"]]
    for command in [*commands, [npm, "run", "build"]]:
        done = subprocess.run(command, cwd=_PAGE, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(done.stdout + done.stderr)


def _workflow(steps: int) -> workflow_pb2.Workflow:
    builder = WorkflowBuilder(_WORKFLOW, version="1.0.0")
    builder.step("s0", skill=_SKILL, input={"number": 0}, cache=False)
    for number in range(1, steps):
        read = {"number": number, "before": expression(f"steps.s{number - 1}.output.number")}
        builder.step(f"s{number}", skill=_SKILL, needs=[f"s{number - 1}"], input=read, cache=False)
    return builder.build()
