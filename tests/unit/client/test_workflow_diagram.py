"""Pictures of workflows: complete, legible, escaped and bounded."""

import random
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from xml.etree import ElementTree

import pytest

from runengine_client.states import OutputSource, RunStatus, StepStatus, TriggerType
from runengine_client.types import Run, Step, StepsSummary
from runengine_client.workflow import WorkflowBuilder, WorkflowDocumentError, load_workflow
from runengine_client.workflow.dag import Dag
from runengine_client.workflow.diagram import (
    Diagram,
    DiagramTooLargeError,
    Tone,
    diagram_of,
    diagram_of_change,
    diagram_of_run,
    render_mermaid,
    render_svg,
    render_text,
)
from runengine_client.workflow.diagram.layout import lay_out

CAMPAIGN = load_workflow(Path(__file__).parents[3] / "examples" / "campaign" / "campaign.build.v1.yaml")
EVIL = 'a"]; end <script>alert(1)</script> &#quot; `x` ]]> \x00\ud7ff\n--> ' + "long" * 50

SVG = "{http://www.w3.org/2000/svg}"


def drawn(steps: dict[str, list[str]]) -> Diagram:
    builder = WorkflowBuilder("demo", version="1.0.0")
    for step_id, needs in steps.items():
        builder.step(step_id, skill="demo.skill", needs=needs)
    return diagram_of(builder.build())


def random_diagram(count: int, parents_max: int, seed: int = 1) -> Diagram:
    chance = random.Random(seed)
    parents = [
        tuple(sorted({chance.randrange(number) for _ in range(chance.randint(0, parents_max))})) if number else ()
        for number in range(count)
    ]
    return drawn({f"s{number}": [f"s{each}" for each in known] for number, known in enumerate(parents)})


def lines_of(diagram: Diagram) -> list[str]:
    return [f"{row.level or ' '} {row.lanes} {row.step_id}".rstrip() for row in render_text(diagram)]


def test_text_of_a_diamond():
    """A step a line, by level; lines lead from a step to those that wait for it and end with the last."""
    diagram = drawn(
        {"plan": [], "image": ["plan"], "music": ["plan"], "film": ["image", "music"], "end": ["plan", "film"]}
    )
    assert lines_of(diagram) == [
        "0 ●     plan",
        "1 ├─●   image",
        "  ├─│─● music",
        "2 │ ●─╯ film",
        "3 ●─╯   end",
    ]


def test_text_crosses_without_touching():
    """A line that passes a lane of somebody else goes through it; in its middle it takes others along."""
    diagram = drawn({"a": [], "b": [], "c": [], "ac": ["a", "c"], "abc": ["a", "b", "c"], "again": ["a", "ac"]})
    assert lines_of(diagram) == [
        "0 ●       a",
        "  │ ●     b",
        "  │ │ ●   c",
        "1 ├─│─┼─● ac",
        "  ├─●─╯ │ abc",
        "2 ●─────╯ again",
    ]


def test_text_of_the_campaign_fits_a_terminal():
    """The thirteen steps of the example, with lanes and skills, need at most 80 columns."""
    rows = render_text(diagram_of(CAMPAIGN))
    assert [row.level for row in rows if row.level] == ["0", "1", "2", "3", "4"]
    step_ids = max(len(row.step_id) for row in rows)
    assert max(len(f"0 {row.lanes} ") + step_ids + 1 + len(row.detail) for row in rows) <= 80


@pytest.mark.parametrize("seed", range(20))
def test_text_lanes_are_consistent(seed: int):
    """Every line meets as many lanes as its step waits for, and every step's line begins and ends."""
    diagram = random_diagram(14, 2, seed)
    rows = {row.step_id: row for row in render_text(diagram)}
    for node, parents in zip(diagram.nodes, diagram.dag.parents, strict=True):
        lanes = rows[node.step_id].lanes
        assert lanes.count("●") == 1
        met = sum(lanes.count(corner) for corner in "├┤┼╰╯┴")
        assert met in (len(parents), len(parents) - 1)  # the step may sit in the lane of a parent that ends there
    final = render_text(diagram)[-1].lanes
    assert "│" not in final and "├" not in final and "┤" not in final and "┼" not in final


def test_text_names_dependencies_where_lanes_are_too_many():
    """Beyond 24 lanes the picture lists what a step waits for instead."""
    diagram = drawn({**{f"s{number}": [] for number in range(30)}, "end": [f"s{number}" for number in range(30)]})
    last = render_text(diagram)[-1]
    assert (last.step_id, last.lanes) == ("end", "●")
    assert last.detail == "demo.skill ← s0, s1, s2, s3 and 26 more"


def test_change():
    """A change shows its seeds, what is downstream and what is reused: four steps of the campaign for audio.update."""
    diagram = diagram_of_change(CAMPAIGN, "audio.update")
    tones = {node.step_id: node.tone for node in diagram.nodes if node.tone is not Tone.REUSED}
    assert tones == {
        "generate_bgm_track": Tone.SEED,
        "generate_sfx_pack": Tone.SEED,
        "mix_audio_for_game": Tone.SEED,
        "assemble_campaign_manifest": Tone.DOWNSTREAM,
    }
    assert diagram.subtitle == "audio.update: 3 seeds, 1 downstream, 9 reused"
    with pytest.raises(ValueError, match=r"no change request 'x'; it has: audio\.update"):
        diagram_of_change(CAMPAIGN, "x")


def test_run():
    """A run shows each step's status in words, with what the caller says about it; an unknown step says so."""
    run = Run(
        id="r1",
        workflow_name="campaign.build.v1",
        workflow_version="1.0.0",
        workflow_digest="",
        status=RunStatus.RUNNING,
        trigger_type=TriggerType.INITIAL,
        steps_summary=StepsSummary(),
    )
    step = Step(
        run_id="r1",
        step_id="campaign_plan_from_brief",
        skill_id="x",
        status=StepStatus.SKIPPED,
        output_source=OutputSource.BASE_RUN,
    )
    diagram = diagram_of_run(CAMPAIGN, run, [step], lambda each: str(each.output_source))
    assert (diagram.nodes[0].tone, diagram.nodes[0].note) == (Tone.SKIPPED, "skipped, base_run")
    assert (diagram.nodes[1].tone, diagram.nodes[1].note) == (Tone.UNKNOWN, "unknown")
    assert all(Tone(status.value) for status in StepStatus)


def test_cycles_are_refused():
    """A cycle has no levels; it is an error that names its steps."""
    with pytest.raises(WorkflowDocumentError, match="a → b → a"):
        drawn({"a": ["b"], "b": ["a"]})


def evil() -> Diagram:
    diagram = drawn({"a": [], "b": ["a"]})
    nodes = [replace(node, step_id=EVIL, skill_id=EVIL, tone=Tone.FAILED, note=EVIL) for node in diagram.nodes]
    return replace(diagram, title=EVIL, subtitle=EVIL, nodes=nodes)


def test_mermaid():
    """Every step and dependency is there once, with a class for each mark."""
    text = render_mermaid(diagram_of_change(CAMPAIGN, "audio.update"))
    assert text.count("-->") == sum(len(step.depends_on) for step in CAMPAIGN.steps)
    assert '  s0["campaign_plan_from_brief<br/>reused"]\n' in text
    assert "  class s4,s5,s6 seed\n" in text
    assert text.startswith('---\ntitle: "campaign.build.v1 1.0.0 (audio.update')


def test_mermaid_is_escaped():
    """Nothing of a workflow's texts can end a label, open a tag or start a line of its own."""
    text = render_mermaid(evil())
    labels = re.findall(r'^  s\d+\["(.*)"\]$', text, re.MULTILINE)
    assert len(labels) == 2
    for label in labels:
        assert not re.search(r'["<>`]|&(?!$)|#(?!35;|quot;|lt;|gt;|amp;|96;)', label.replace("<br/>", ""))
    assert len(text.splitlines()) == 4 + 2 + 1 + 2


def test_svg_is_safe_and_accessible():
    """The picture is XML whatever the texts say, has title and description, and nothing in it runs or loads."""
    picture = ElementTree.fromstring(render_svg(evil()))
    assert picture.get("role") == "img"
    assert {picture[0].tag, picture[1].tag} == {f"{SVG}title", f"{SVG}desc"}
    assert picture.get("aria-labelledby") == "title desc"
    tags = {each.tag.removeprefix(SVG) for each in picture.iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "text", "path", "g"}
    names = {name for each in picture.iter() for name in each.attrib}
    assert not any(name.startswith("on") or "href" in name for name in names)
    assert "url(" not in render_svg(evil()) and "@import" not in render_svg(evil())
    assert "prefers-color-scheme:dark" in render_svg(evil())


@pytest.mark.parametrize(
    "diagram", [diagram_of(CAMPAIGN), random_diagram(60, 3), evil()], ids=["campaign", "60", "evil"]
)
def test_svg_texts_fit(diagram: Diagram):
    """Boxes do not overlap, lie on the page, and hold their texts."""
    picture = ElementTree.fromstring(render_svg(diagram))
    width, height = (float(picture.attrib[name]) for name in ("width", "height"))
    boxes = []
    for group in picture.iter(f"{SVG}g"):
        box = next((each for each in group if each.get("class") == "box"), None)
        if box is None:
            continue  # of the legend
        left, top, wide, high = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        boxes.append((left, top, left + wide, top + high))
        for text in group.findall(f"{SVG}text"):
            assert left < float(text.attrib["x"])
            assert float(text.attrib["x"]) + float(text.attrib["textLength"]) <= left + wide
            assert top < float(text.attrib["y"]) < top + high
    assert len(boxes) == len(diagram.nodes)
    assert all(left >= 0 and top >= 0 and right <= width and bottom <= height for left, top, right, bottom in boxes)
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize("seed", range(10))
def test_layout_keeps_distances(seed: int):
    """Items of a column stay in order and apart, waypoints too, so that no line runs through a box."""
    dag = random_diagram(40, 3, seed).dag
    for column in lay_out(dag, box_height=40, gap=10):
        for upper, lower in pairwise(column):
            assert lower.y - upper.y >= (upper.height + lower.height) / 2 + 10 - 1e-6


def test_layout_uncrosses():
    """Two pairs that can be drawn side by side are."""
    columns = lay_out(Dag(parents=[(), (), (1,), (0,)]), box_height=40, gap=10)
    assert [item.step for item in columns[1]] in ([3, 2], [2, 3])
    order = [item.step for item in columns[0]]
    assert [item.step for item in columns[1]] == ([3, 2] if order == [0, 1] else [2, 3])


def test_large_workflows_are_drawn_or_refused():
    """Ten thousand steps take less than seconds as text and Mermaid, and a picture too large is refused politely."""
    large = random_diagram(10_000, 3)
    started = perf_counter()
    assert len(render_text(large)) == 10_000
    assert render_mermaid(large).count("\n") > 10_000
    with pytest.raises(DiagramTooLargeError, match="use --format text or mermaid"):
        render_svg(large)
    with pytest.raises(DiagramTooLargeError):
        render_svg(random_diagram(1_500, 60))
    render_svg(random_diagram(2_000, 3))
    assert perf_counter() - started < 20  # measured: below 2 s on a busy machine


def test_empty_workflow():
    """A workflow without steps is an empty picture in every form."""
    diagram = drawn({})
    assert render_text(diagram) == []
    assert "flowchart LR" in render_mermaid(diagram)
    ElementTree.fromstring(render_svg(diagram))
