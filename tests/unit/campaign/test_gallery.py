"""What the demo lists of its files can be read on a small terminal."""

from rich.console import Console

from examples.campaign.gallery import catalogue
from runengine_client.types import Artifact
from runengine_client.workflow import load_workflow

from .conftest import CAMPAIGN

RUN, BASE = "5ebbeb46-19af-4927-a179-3edd509218f1", "0f24a189-ae05-4186-b0d4-8364cf40dbb7"
LONGEST_FILENAME = "start_button_pressed.png"


def artifact(step_id: str, source_run_id: str) -> Artifact:
    return Artifact(
        id="35cd82ff-de1e-4fda-9af4-2dd50b4c29dc",
        run_id=RUN,
        step_id=step_id,
        type="model/gltf-binary",
        uri="file:///far/away",
        content_hash="ab",
        size_bytes=1_047_000,
        filename=LONGEST_FILENAME,
        source_run_id=source_run_id,
    )


def test_one_line_a_file_in_80_columns() -> None:
    """Each file takes one line, uncut, with the step and the run that made it."""
    steps = [step.step_id for step in load_workflow(CAMPAIGN / "campaign.build.v1.yaml").steps]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(catalogue([*(artifact(step, BASE) for step in steps), artifact(steps[0], RUN)]))
    _, *lines = captured.get().splitlines()
    size = ["1022.5", "KiB"]
    expected = [[LONGEST_FILENAME, step, *size, "the", "build"] for step in steps]
    assert [line.split() for line in lines] == [*expected, [LONGEST_FILENAME, steps[0], *size, "the", "update"]]
