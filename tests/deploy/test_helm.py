"""The chart by Helm's own library: it lints, its pods are restricted, and it refuses what would expose something."""

from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from runengine_server.config import Settings, variable_of

from ..support.deploy_tools import DEPLOY, asked, load_yaml
from ..support.documents import blocks

CHART = DEPLOY / "helm" / "runengine"
VALUES = {name: load_yaml(CHART / "ci" / f"{name}-values.yaml") for name in ("least", "everything", "issuer")}

_LINT = """
import helm_python, json, sys
chart, values = json.load(sys.stdin)
print(json.dumps(helm_python.lint(chart, values, strict=True)))
"""
_RENDER = """
import helm_python, json, sys
path, values = json.load(sys.stdin)
with helm_python.Chart.load(path) as chart:
    try:
        chart.validate_schema(values)
        print(json.dumps(chart.render(values, name="demo", namespace="prod")))
    except helm_python.HelmError as error:
        print(json.dumps(str(error)))
"""


def rendered(values: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects that Helm would install, by kind and name."""
    files = asked(_RENDER, "helm_python", [str(CHART), values])
    assert isinstance(files, dict), files
    objects = [
        each
        for path, text in files.items()
        if not path.endswith("NOTES.txt")
        for each in yaml.safe_load_all(text)
        if each is not None
    ]
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


def refusal(values: dict[str, Any]) -> str:
    """Why Helm installs nothing."""
    said = asked(_RENDER, "helm_python", [str(CHART), values])
    assert isinstance(said, str), "it was rendered"
    return said


def pods(objects: dict[tuple[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """The specification of every pod among the objects."""
    return [
        each["spec"] if kind == "Pod" else each["spec"]["template"]["spec"]
        for (kind, _), each in objects.items()
        if kind in ("Pod", "Deployment", "Job")
    ]


@pytest.mark.parametrize("name", VALUES)
def test_lint(name: str) -> None:
    """`helm lint --strict` finds nothing but that there is no icon."""
    report = asked(_LINT, "helm_python", [str(CHART), VALUES[name]])
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


def test_what_is_installed() -> None:
    """The least values install what serves and protects; options add the rest."""
    least, everything = rendered(VALUES["least"]), rendered(VALUES["everything"])
    engine = {"ServiceAccount", "ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    assert {kind for kind, _ in least} == engine | {"Job", "Pod"}
    assert {kind for kind, _ in everything} - {kind for kind, _ in least} == {
        "HorizontalPodAutoscaler",
        "ServiceMonitor",
    }
    assert "replicas" not in everything["Deployment", "demo-runengine"]["spec"], (
        "the autoscaler's number would be undone"
    )


@pytest.mark.parametrize("name", VALUES)
def test_pods_are_restricted(name: str) -> None:
    """Every pod keeps to the level `restricted`, has a root that cannot be written, and no token of the cluster."""
    found = pods(rendered(VALUES[name]))
    assert len(found) == 3
    for pod in found:
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["runAsUser"] == 65532
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_probes_and_time_to_drain() -> None:
    """Only liveness restarts, readiness says who gets requests, and the grace period covers pause and drain."""
    pod = pods(rendered({**VALUES["least"], "drainSeconds": 90}))
    [engine] = [each["containers"][0] | {"pod": each} for each in pod if each["containers"][0]["name"] == "engine"]
    ports = {port["name"]: port["containerPort"] for port in engine["ports"]}
    assert ports == {"grpc": 50051, "http": 3001, "ops": 3002}
    for probe, path in {"startup": "live", "liveness": "live", "readiness": "ready"}.items():
        assert engine[f"{probe}Probe"]["httpGet"] == {"path": f"/health/{path}", "port": "ops"}
    assert engine["pod"]["terminationGracePeriodSeconds"] >= 90 + 5 + 10


def test_migration_comes_first() -> None:
    """The schema is brought up to date before engines are replaced, by the role that may, which engines never get."""
    objects = rendered(VALUES["everything"])
    job = objects["Job", "demo-runengine-migrate"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    secrets = {
        kind: [volume["secret"]["secretName"] for volume in spec["template"]["spec"]["volumes"] if "secret" in volume]
        for kind, spec in (("Job", job["spec"]), ("Deployment", objects["Deployment", "demo-runengine"]["spec"]))
    }
    assert secrets == {"Job": ["runengine-migrator"], "Deployment": ["runengine", "runengine-tls"]}


def test_settings_exist() -> None:
    """Every variable that the chart sets is a setting, and none of them a secret."""
    known = {variable_of(name) for name in Settings.model_fields}
    for values in VALUES.values():
        settings = rendered(values)["ConfigMap", "demo-runengine-settings"]["data"]
        assert {name for name in settings if name.startswith("RUNENGINE_")} <= known
        assert not {"DATABASE_URL", "REDIS_URL", "RUNENGINE_SKILL_TOKENS"} & settings.keys()


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("least", {}, True),
        ("issuer", {}, False),
        ("issuer", {"tokens": None}, False),
        ("issuer", {"tokens": False}, False),
        ("issuer", {"tokens": True}, True),
    ],
)
def test_tokens_are_for_who_has_them(name: str, said: dict[str, Any], expected: bool) -> None:
    """Engines read listed tokens unless the settings name an issuer; with one, only where the values say so."""
    objects = rendered({**VALUES[name], "secret": {"existing": "runengine", **said}})
    settings = objects["ConfigMap", "demo-runengine-settings"]["data"]
    assert ("RUNENGINE_TOKENS_FILE" in settings) is expected


def test_monitoring_finds_the_engines() -> None:
    """The ServiceMonitor selects exactly the service with the port it names, under the job that alerts know."""
    objects = rendered(VALUES["everything"])
    monitor = objects["ServiceMonitor", "demo-runengine"]["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    [service] = [
        each
        for (kind, _), each in objects.items()
        if kind == "Service" and wanted <= each["metadata"]["labels"].items()
    ]
    assert monitor["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert monitor["endpoints"][0]["relabelings"] == [{"targetLabel": "job", "replacement": "runengine"}]


def test_selectors_select() -> None:
    """What selects engines selects their pods, and no pod of the migration or the test."""
    objects = rendered(VALUES["everything"])
    deployment = objects["Deployment", "demo-runengine"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    others = [
        objects["Job", "demo-runengine-migrate"]["spec"]["template"]["metadata"]["labels"],
        objects["Pod", "demo-runengine-test"]["metadata"]["labels"],
    ]
    selectors = [
        deployment["selector"]["matchLabels"],
        objects["Service", "demo-runengine"]["spec"]["selector"],
        objects["Service", "demo-runengine-engines"]["spec"]["selector"],
        objects["PodDisruptionBudget", "demo-runengine"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy", "demo-runengine"]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not any(selector.items() <= other.items() for other in others)


def test_operations_are_private() -> None:
    """Port 3002 is closed to everybody until somebody is named."""
    for name, is_open in (("least", False), ("everything", True)):
        rules = rendered(VALUES[name])["NetworkPolicy", "demo-runengine"]["spec"]["ingress"]
        assert any(port["port"] == "ops" for rule in rules for port in rule["ports"]) is is_open
        assert all(rule.get("from") for rule in rules if any(port["port"] == "ops" for port in rule["ports"]))


def with_settings(**settings: str) -> dict[str, Any]:
    return {**VALUES["least"], "settings": settings}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"insecurePlaintext": True}, "secret.existing is required", id="no secret"),
        pytest.param(
            {**VALUES["least"], "secret": {"existing": "s", "tokens": False}}, "name an issuer", id="nobody can call"
        ),
        pytest.param({"secret": {"existing": "s"}}, "set tls.existingSecret, or insecurePlaintext", id="no TLS"),
        pytest.param({**VALUES["least"], "replica": 3}, "replica", id="misspelt"),
        pytest.param(with_settings(RUNENGINE_ANONYMOUS="true"), "RUNENGINE_ANONYMOUS", id="no tokens"),
        pytest.param(with_settings(DATABASE_URL="postgresql://"), "DATABASE_URL", id="secret in clear"),
    ],
)
def test_refused_values(values: dict[str, Any], reason: str) -> None:
    """Values that would expose something, or are none, are refused with the reason."""
    assert reason in refusal(values)


def test_the_document() -> None:
    """The values that docs/deployment.md shows are such, and nothing that Helm would refuse."""
    (values,) = blocks("docs/deployment.md", "yaml")
    objects = rendered(yaml.safe_load(values))
    assert ("ServiceMonitor", "demo-runengine") in objects


def test_schema_and_values_agree() -> None:
    """Without Helm, too: the schema is one, every value has a place in it, and the defaults keep to it."""
    schema = load_yaml(CHART / "values.schema.json")
    Draft7Validator.check_schema(schema)
    defaults = load_yaml(CHART / "values.yaml")
    assert set(defaults) == set(schema["properties"]) - {"global"}
    for values in (defaults, *VALUES.values()):
        assert list(Draft7Validator(schema).iter_errors(values)) == []


def test_versions_agree() -> None:
    """The chart's appVersion is the version of the package, which is the tag of its image."""
    chart = load_yaml(CHART / "Chart.yaml")
    assert f'version = "{chart["appVersion"]}"' in (DEPLOY.parent / "pyproject.toml").read_text()
    assert f"ARG VERSION={chart['appVersion']}" in (DEPLOY / "Containerfile").read_text()
