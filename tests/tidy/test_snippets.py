"""Every snippet of a document is executed or checked by a test that is named here."""

import re

import pytest

from ..support.documents import all_blocks, blocks
from . import source

DOCUMENTS = [
    path
    for path in source.tracked()
    if (path.endswith(".md") and path.startswith(("docs/", "examples/", "deploy/"))) or re.fullmatch(r"\w+\.md", path)
]
# Shown, not executed: what programs print, and commands that need a container engine. Pictures are files: a mermaid
# block would be code on the site, as drawing it takes a script of megabytes.
NOT_CODE = {"", "text"}

README = "tests/e2e/test_readme.py"
FIRST_DAY = "tests/e2e/test_documents.py"
SNIPPETS = "tests/e2e/test_document_snippets.py"
WORKFLOWS = "tests/unit/client/test_workflow_guide.py"
# Document → language → the test that executes its blocks.
TESTED: dict[str, dict[str, str]] = {
    "CONTRIBUTING.md": {"sh": SNIPPETS},
    "README.md": {"python": README, "sh": README, "yaml": README},
    "docs/artifacts.md": {"bash": "tests/e2e/test_artifact_content.py", "python": SNIPPETS},
    "docs/browsers.md": dict.fromkeys(("sh", "ts", "js"), "tests/browser/test_documentation.py"),
    "docs/cli.md": dict.fromkeys(("sh", "json"), "tests/e2e/test_cli_documents.py"),
    "docs/client.md": {"python": SNIPPETS},
    "docs/configuration.md": {"sh": "tests/e2e/test_doctor.py", "yaml": SNIPPETS},
    "docs/deployment.md": {"yaml": "tests/deploy/test_helm.py"},
    "docs/grpc-skills.md": dict.fromkeys(("sh", "js"), "tests/e2e/test_node_grpc_skill.py"),
    "docs/http-skills.md": {"json": "tests/integration/skills/test_http_document.py", "bash": SNIPPETS},
    "docs/http.md": {"json": SNIPPETS},
    "docs/metrics.md": {"promql": "tests/tidy/test_snippets.py"},
    "docs/operations.md": {"bash": FIRST_DAY, "json": FIRST_DAY},
    "docs/performance.md": {"sh": SNIPPETS},
    "docs/quickstart.md": {"sh": FIRST_DAY, "json": FIRST_DAY},
    "docs/selectors.md": {"yaml": "tests/unit/selector/test_selector_guide.py"},
    "docs/skills.md": {"python": SNIPPETS},
    "docs/tracing.md": {"console": SNIPPETS},
    "docs/troubleshooting.md": {"sh": FIRST_DAY},
    "docs/workflows.md": dict.fromkeys(("yaml", "json", "python", "canonical"), WORKFLOWS),
    "examples/campaign/README.md": {"json": "tests/unit/campaign/test_workflow.py"},
    "examples/node-grpc-skill/README.md": {"bash": "tests/e2e/test_node_grpc_skill.py"},
    "examples/node-skill-runner/README.md": {"bash": "tests/e2e/test_node_example.py"},
}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_snippet_is_tested(document: str) -> None:
    """The languages of a document's blocks are those that have a test, and the test names the document."""
    languages = {block.language for block in all_blocks(document)} - NOT_CODE
    tests = TESTED.get(document, {})
    assert languages == tests.keys(), "a test has to execute it: write one, and name it in TESTED"
    assert [test for test in tests.values() if document.rpartition("/")[2] not in source.text(test)] == []


def test_every_document_is_there() -> None:
    """No entry is left of a document that is gone."""
    assert TESTED.keys() <= set(DOCUMENTS)


def test_queries_name_metrics() -> None:
    """The queries that docs/metrics.md shows ask for metrics that it lists."""
    listed = set(re.findall(r"^\| `(run_engine_\w+)`", source.text("docs/metrics.md"), re.MULTILINE))
    (queries,) = blocks("docs/metrics.md", "promql")
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\brun_engine_\w+", queries)}
    assert asked
    assert asked - listed == set()
