"""What the CLI says of a payload that it cannot read."""

from pathlib import Path

import pytest
import typer

from runengine_client.cli.payload_argument import read_payload


def test_forgotten_at(tmp_path: Path) -> None:
    """Whoever forgets the @ before a file is told of it; whoever writes bad JSON is not."""
    file = tmp_path / "brief.json"
    file.write_text("{}")

    with pytest.raises(typer.BadParameter, match=f"a file is written @{file}"):
        read_payload(str(file))
    with pytest.raises(typer.BadParameter) as refused:
        read_payload('{"brief": ' + " " * 5000)
    assert "a file is written" not in str(refused.value)
