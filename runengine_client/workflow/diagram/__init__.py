"""Pictures of a workflow's steps: as text, as a Mermaid flowchart and as SVG."""

from runengine_client.workflow.diagram.mermaid import render_mermaid
from runengine_client.workflow.diagram.model import (
    Diagram,
    DiagramNode,
    DiagramTooLargeError,
    Tone,
    diagram_of,
    diagram_of_change,
    diagram_of_run,
)
from runengine_client.workflow.diagram.svg import render_svg
from runengine_client.workflow.diagram.text import TextRow, render_text

__all__ = [
    "Diagram",
    "DiagramNode",
    "DiagramTooLargeError",
    "TextRow",
    "Tone",
    "diagram_of",
    "diagram_of_change",
    "diagram_of_run",
    "render_mermaid",
    "render_svg",
    "render_text",
]
