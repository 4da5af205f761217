"""Writes a workflow as a Mermaid flowchart, which GitHub, GitLab and many editors draw."""

import json
from collections.abc import Iterator

from runengine_client.workflow.diagram.model import Diagram, Tone

_COLOURS = {
    Tone.SEED: "fill:#bf5700,stroke:#7a3800,color:#ffffff",
    Tone.DOWNSTREAM: "fill:#ffd8a8,stroke:#bf5700,color:#1b1f24",
    Tone.REUSED: "fill:#eaeef2,stroke:#8c959f,color:#57606a",
    Tone.PENDING: "fill:#eaeef2,stroke:#8c959f,color:#57606a",
    Tone.READY: "fill:#fff8c5,stroke:#9a6700,color:#1b1f24",
    Tone.RUNNING: "fill:#b6e3ff,stroke:#0969da,color:#1b1f24",
    Tone.COMPLETED: "fill:#aceebb,stroke:#1a7f37,color:#1b1f24",
    Tone.SKIPPED: "fill:#ddf4ff,stroke:#54aeff,color:#1b1f24",
    Tone.FAILED: "fill:#ffcecb,stroke:#cf222e,color:#1b1f24",
    Tone.CANCELLED: "fill:#fbefff,stroke:#8250df,color:#1b1f24",
    Tone.UNKNOWN: "fill:#ffffff,stroke:#8c959f,color:#57606a",
}

_ENTITIES = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;"})


def render_mermaid(diagram: Diagram) -> str:
    """The flowchart from left to right; steps have the ids s0, s1, … in the order of the definition."""
    return "\n".join(_lines(diagram)) + "\n"


def _lines(diagram: Diagram) -> Iterator[str]:
    yield "---"
    yield f"title: {json.dumps(f'{diagram.title} ({diagram.subtitle})', ensure_ascii=False)}"
    yield "---"
    yield "flowchart LR"
    for number, node in enumerate(diagram.nodes):
        yield f'  s{number}["{_label(node.step_id)}<br/>{_label(node.detail)}"]'
    for number, parents in enumerate(diagram.dag.parents):
        for parent in parents:
            yield f"  s{parent} --> s{number}"
    for tone, colours in _COLOURS.items():
        members = [f"s{number}" for number, node in enumerate(diagram.nodes) if node.tone is tone]
        if members:
            yield f"  classDef {tone} {colours}"
            yield f"  class {','.join(members)} {tone}"


def _label(text: str) -> str:
    """The text on one line, with nothing in it that Mermaid or HTML would read."""
    return " ".join(text.split()).translate(_ENTITIES)
