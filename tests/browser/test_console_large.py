"""A run of ten thousand steps in the console: little of it is in the document, and the page stays usable."""

import re

import pytest
from playwright.async_api import Page, expect

from runengine_client import RunEngineClient
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.engine_process import EngineProcess
from ..support.skill_server_process import SkillServerProcess
from .console import drawer, open_console

pytestmark = pytest.mark.anyio

WIDTH, LEVELS = 1000, 10
HAS_BEGUN = re.compile("node group s-(running|completed)")
HAS_ENDED = re.compile("cancelled|completed")
"""The engine may be faster than the browser."""
ELEMENTS_MAX = 1500
TASK_MS_MAX = 2000
"""More than ten times what was measured; there were 300 elements."""

_NOTE_LONG_TASKS = """() => {
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
  }).observe({ type: "longtask" });
}"""


def grid() -> workflow_pb2.Workflow:
    """A gate, then levels of steps that each wait for one of the level before."""
    builder = WorkflowBuilder("grid", version="1.0.0")
    builder.step("gate", skill="t.gated", input={"gate": expression("trigger.gate")})
    for level in range(LEVELS):
        for place in range(WIDTH - (level == 0)):
            needs = [f"s{level - 1}_{place % (WIDTH - 1)}"] if level else ["gate"]
            builder.step(f"s{level}_{place}", skill="t.echo", needs=needs, input={"number": level * WIDTH + place})
    return builder.build()


async def test_ten_thousand_steps(
    page: Page, engine: EngineProcess, client: RunEngineClient, skills: SkillServerProcess, console_errors: list[str]
) -> None:
    """The graph is folded, lists hold what can be seen, and clicks are answered while many steps end."""
    await client.register_workflow(grid())
    run = await client.start("grid", {"gate": "large"})
    await open_console(page, engine, f"/runs/{run.id}")
    await expect(page.locator(".graph-note")).to_contain_text("10,000 steps, shown as 11 groups")
    await expect(page.locator(".node")).to_have_count(LEVELS + 1)
    await page.evaluate(_NOTE_LONG_TASKS)

    skills.open_gate("large")
    await expect(page.locator('.node[data-group="1 t.echo"]')).to_have_class(HAS_BEGUN)
    elements = []
    for key in ("2", "3", "4", "1"):
        await page.keyboard.press(key)
        await expect(page.locator(".tabs a[aria-current]")).to_have_count(1)
        elements.append(await page.evaluate("document.querySelectorAll('*').length"))
    await page.keyboard.press("3")
    await page.get_by_label("Find by step or skill").fill("s9_77")
    await expect(page.locator(".step-row")).to_have_count(11)
    await page.locator('.step-row[data-step="s9_77"]').click()
    await expect(drawer(page)).to_contain_text("s9_77")
    elements.append(await page.evaluate("document.querySelectorAll('*').length"))
    assert max(elements) < ELEMENTS_MAX
    assert await page.evaluate("window.longest") < TASK_MS_MAX
    assert not console_errors
    await client.cancel(run.id, "seen enough")
    await expect(page.locator(".run-head .pill")).to_have_text(HAS_ENDED)


def every_pair(name: str, first: int, second: int) -> workflow_pb2.Workflow:
    """Steps of which each waits for all before it, or, with a second number, for all of the first rank."""
    builder = WorkflowBuilder(name, version="1.0.0")
    for number in range(first + second):
        needs = range(number) if not second else range(first) if number >= first else ()
        builder.step(f"s{number}", skill="t.echo", needs=[f"s{each}" for each in needs], input={"number": number})
    return builder.build()


@pytest.mark.parametrize(("first", "second"), [(60, 0), (40, 40)])
async def test_dense_graphs(
    page: Page, engine: EngineProcess, client: RunEngineClient, console_errors: list[str], first: int, second: int
) -> None:
    """Graphs that take a layout library half a minute come at once, without what they imply, or in columns."""
    await client.register_workflow(every_pair(f"dense_{first}_{second}", first, second))
    await page.add_init_script(f"({_NOTE_LONG_TASKS})()")
    await open_console(page, engine, f"/workflows/dense_{first}_{second}")
    await expect(page.locator(".node")).to_have_count(first + second)
    await expect(page.locator("path.edge")).to_have_count(first * second if second else first - 1)
    assert await page.evaluate("window.longest") < TASK_MS_MAX
    assert not console_errors
