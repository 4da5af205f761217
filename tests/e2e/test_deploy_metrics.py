"""Alerts and dashboard name metrics, labels and values that a process really has."""

import re

import httpx
import pytest
import yaml

from runengine_client import RunEngineClient

from ..support.engine_process import EngineProcess
from ..support.processes import REPOSITORY
from ..support.promql import grouped_by, references
from .test_metrics_contract import scraped

pytestmark = pytest.mark.anyio

DEPLOY = REPOSITORY / "deploy"
CONTRACT = (REPOSITORY / "docs" / "metrics.md").read_text() + (REPOSITORY / "docs" / "guarantees.md").read_text()


def expressions() -> list[str]:
    """Every expression of the alerts, the dashboard's panels and its variables."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    dashboard = yaml.safe_load((DEPLOY / "grafana" / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    variables = [each["definition"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    return [rule["expr"] for group in groups for rule in group["rules"]] + queries + variables


async def test_everything_referenced_exists(engine: EngineProcess, client: RunEngineClient) -> None:
    """Each metric is in the process's metrics with each label; each value is there, or promised in the documents."""
    types, labels = await scraped(engine, client)
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{engine.ops_url}/metrics")).text
    assert len(expressions()) > 60
    for expression in expressions():
        found = list(references(expression))
        for reference in found:
            assert reference.metric in types, expression
            assert set(reference.labels) <= labels[reference.metric], expression
            for label, values in reference.labels.items():
                missing = [value for value in values if not is_known(label, value, text)]
                assert not missing, f"{label} is never {missing}: {expression}"
        known = set().union(*(labels[reference.metric] for reference in found))
        assert grouped_by(expression) <= known, expression


def is_known(label: str, value: str, text: str) -> bool:
    """Whether the process says this of something, or the documents promise that one will."""
    if value in ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "5.."):
        return True  # statuses of gRPC and HTTP
    return f'{label}="{value}"' in text or re.search(rf"`{re.escape(value)}`", CONTRACT) is not None


async def test_the_dashboard_shows_what_is_promised() -> None:
    """Every metric of ours in docs/metrics.md is somewhere in an alert or on the dashboard."""
    promised = set(re.findall(r"^\| `(run_engine_\w+)`", CONTRACT, re.MULTILINE))
    used = {reference.metric for expression in expressions() for reference in references(expression)}
    assert promised - used == set()
