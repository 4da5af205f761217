"""docs/metrics.md and a process say the same: every metric, its type and its labels, in both directions."""

import re
from typing import NamedTuple

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runengine_client import RunEngineClient

from ..support.engine_process import EngineProcess
from ..support.processes import REPOSITORY
from .workflows import DEMO, demo, single

pytestmark = pytest.mark.anyio


class Promised(NamedTuple):
    """A row of the document."""

    type: str
    labels: frozenset[str]
    unit: str
    meaning: str


def documented() -> dict[str, Promised]:
    """The document's metrics by name; in the cell of labels each part begins with the name of one."""
    text = (REPOSITORY / "docs" / "metrics.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    return {
        name.strip("`"): Promised(kind, frozenset(re.findall(r"(?:^|; )`(\w+)`", labels)), unit, meaning)
        for name, kind, labels, unit, meaning, _ in rows
    }


async def scraped(engine: EngineProcess, client: RunEngineClient) -> tuple[dict[str, str], dict[str, set[str]]]:
    """The process's metrics: types by name, and labels of those with samples, after each of them had a reason."""
    await client.register_workflow(demo())
    for _ in range(2):
        await (await client.start(DEMO, {"brief": "metrics"})).wait()
    await client.register_workflow(single("m.fails", skill="t.flaky", input={"failures": 1}, max_attempts=1))
    await (await client.start("m.fails", {"given": None})).wait()
    async with httpx.AsyncClient() as http:
        await http.get(f"{engine.http_url}/api/v1/runs")
        text = (await http.get(f"{engine.ops_url}/metrics")).text
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name if sample.name in types else re.sub(r"_(bucket|sum|count)$", "", sample.name)
            labels.setdefault(name, set()).update(set(sample.labels) - {"le"})
    return types, labels


async def test_document_and_process_agree(engine: EngineProcess, client: RunEngineClient) -> None:
    """What the document lists the process has, with type and labels, and nothing else."""
    promised = documented()
    types, labels = await scraped(engine, client)
    assert {name: row.type for name, row in promised.items()} == types
    assert {name: row.labels for name, row in promised.items()} == {
        name: frozenset(labels.get(name, ())) for name in types
    }


def test_every_metric_has_a_unit_and_a_meaning() -> None:
    """Each row says what is counted in which unit, and names end as type and unit ask for."""
    for name, row in documented().items():
        assert row.unit and row.meaning, name
        assert (row.type == "counter") is name.endswith("_total"), name
        assert row.unit != "seconds" or "seconds" in name, name


def test_operations_names_metrics_that_exist() -> None:
    """What docs/operations.md tells to look at is documented as a metric."""
    names = set(re.findall(r"\brun_engine_\w+", (REPOSITORY / "docs" / "operations.md").read_text()))
    assert names and names <= set(documented())
