"""Alerts and dashboard are right by Prometheus' own judgement, and use only metrics and labels that are promised."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..support.deploy_tools import DEPLOY, load_yaml, run, tool
from ..support.promql import references

PROMETHEUS = DEPLOY / "prometheus"


def alerts() -> list[dict[str, Any]]:
    return [rule for group in load_yaml(PROMETHEUS / "alerts.yml")["groups"] for rule in group["rules"]]


def test_configuration_and_rules() -> None:
    """promtool accepts the configuration and every rule in it."""
    assert "rules found" in run(tool("promtool"), "check", "config", "prometheus.yml", cwd=PROMETHEUS)


def test_rules_fire_when_they_should() -> None:
    """Each story of alerts_test.yml raises what it says, and nothing that it rules out."""
    assert "SUCCESS" in run(tool("promtool"), "test", "rules", "alerts_test.yml", cwd=PROMETHEUS)


def test_rules_can_fail(tmp_path: Path) -> None:
    """The stories notice a rule that says something else: promtool is really asked."""
    (tmp_path / "alerts_test.yml").write_text((PROMETHEUS / "alerts_test.yml").read_text())
    (tmp_path / "alerts.yml").write_text(
        (PROMETHEUS / "alerts.yml").read_text().replace("stuck_steps) > 0", "stuck_steps) > 9")
    )
    with pytest.raises(AssertionError, match="RunEngineStepsStuck"):
        run(tool("promtool"), "test", "rules", "alerts_test.yml", cwd=tmp_path)


def test_every_alert_says_what_to_do() -> None:
    """Names are unique; each alert has a severity, what is the matter, and what to do."""
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule
        assert set(rule["annotations"]) == {"summary", "action"}, rule


def test_alerts_of_the_documents() -> None:
    """What docs/operations.md advises to alert on is there: its metrics are those of rules."""
    table = (
        (DEPLOY.parent / "docs" / "operations.md").read_text().partition("## What to alert on")[2].partition("## ")[0]
    )
    advised = set(re.findall(r"\brun_engine_\w+", table))
    assert advised
    assert advised <= {reference.metric for rule in alerts() for reference in references(rule["expr"])}


def panels() -> list[dict[str, Any]]:
    return load_yaml(DEPLOY / "grafana" / "dashboard.json")["panels"]  # type: ignore[no-any-return]


def queries() -> Iterator[str]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"]


def test_dashboard_is_promql(tmp_path: Path) -> None:
    """promtool parses every query of the dashboard, with values for its variables."""
    rules = []
    for number, query in enumerate(queries()):
        for variable, value in {"$__rate_interval": "1m", "$__range": "1h"}.items():
            query = query.replace(variable, value)
        rules.append({"record": f"q{number}", "expr": query})
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(tool("promtool"), "check", "rules", "queries.yml", cwd=tmp_path)


def test_dashboard_layout() -> None:
    """Panels have ids of their own and do not lie on one another; every query asks the chosen data source."""
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
        taken |= cells
        for part in [panel, *panel.get("targets", ())] if panel["type"] != "row" else []:
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("metric", ["run_engine_queue_steps", "run_engine_engines_alive"])
def test_what_every_engine_says_is_not_added(metric: str) -> None:
    """Gauges of the whole installation are read with max, never with sum."""
    expressions = [*queries(), *(rule["expr"] for rule in alerts())]
    used = [expression for expression in expressions if metric in expression]
    assert used and not [each for each in used if re.search(rf"sum[^(]*\({metric}", each)]
